//! The two ways to make writes durable, as a trait: a test replaces them by nothing to see that the power-cut
//! test notices.

use std::fs::File;
use std::io;

use nix::unistd::syncfs;

/// What seeding asks of the disk.
pub trait Durability: Sync {
    /// Everything written so far to the file system that holds `any` is on disk.
    ///
    /// # Errors
    /// The kernel's; before Linux 5.8 it reports no I/O error here.
    fn filesystem(&self, any: &File) -> io::Result<()>;

    /// The content of one file, or the entries of one directory, is on disk.
    ///
    /// # Errors
    /// The kernel's.
    fn file(&self, file: &File) -> io::Result<()>;
}

/// `syncfs` and `fsync`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Disk;

impl Durability for Disk {
    fn filesystem(&self, any: &File) -> io::Result<()> {
        Ok(syncfs(any)?)
    }

    fn file(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }
}
