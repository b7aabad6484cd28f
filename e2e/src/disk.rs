//! A disk of the scenario's own that can be copied at once: the copy is what it held when the power was cut.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::volume::Mount;

/// In memory; only what is written takes room.
const BYTES: u64 = 3 << 30;

/// An ext4 file system in a file on btrfs.
#[derive(Debug)]
pub struct Disk {
    // In the order in which they are unmounted.
    mount: Mount,
    host: Mount,
    _memory: Mount,
}

/// What it held at a moment, mounted as the next start would.
#[derive(Debug)]
pub struct Cut {
    mount: Mount,
    file: PathBuf,
}

impl Disk {
    /// Empty but for the folder that is to be the volume.
    ///
    /// # Panics
    /// If it cannot be made or mounted.
    #[must_use]
    pub fn new() -> Self {
        let memory = Mount::new("size=4g");
        let host = file_system("mkfs.btrfs", &["-q"], &memory.dir().join("host"));
        let mount = file_system("mkfs.ext4", &["-q", "-F"], &host.dir().join("disk"));
        let disk = Self { mount, host, _memory: memory };
        fs::create_dir(disk.volume()).expect("a fresh file system");
        disk
    }

    /// The folder in it that is a builder's store volume.
    #[must_use]
    pub fn volume(&self) -> PathBuf {
        self.mount.dir().join("nix")
    }

    /// Pulls the plug, as far as the copy is concerned.
    ///
    /// # Panics
    /// If it cannot be copied or mounted.
    #[must_use]
    pub fn cut(&self) -> Cut {
        let file = self.host.dir().join("cut");
        let copy = Call::new("cp").arg("--reflink=always").arg(self.host.dir().join("disk"));
        copy.arg(&file).run().ok();
        Cut { mount: Mount::file(&file), file }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Cut {
    /// Options of an engine's volume that is the whole of it.
    #[must_use]
    pub fn options(&self) -> [String; 3] {
        self.mount.options()
    }
}

impl Drop for Cut {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

fn file_system(make: &str, options: &[&str], file: &Path) -> Mount {
    File::create(file).and_then(|made| made.set_len(BYTES)).expect("room in memory");
    Call::new(make).args(options).arg(file).run().ok();
    Mount::file(file)
}
