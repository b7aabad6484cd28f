//! A small file system of the scenario's own, to be a builder's volume.

use std::path::Path;

use tempfile::TempDir;

use crate::call::Call;

/// A file system that is unmounted when this is dropped.
#[derive(Debug)]
pub struct Mount {
    dir: TempDir,
}

impl Mount {
    /// A tmpfs with these options.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn new(options: &str) -> Self {
        Self::with(&["-t", "tmpfs", "-o", options], "t-volume".as_ref())
    }

    /// The file system in a file.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn file(file: &Path) -> Self {
        Self::with(&["-o", "loop"], file)
    }

    fn with(options: &[&str], what: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("t-volume-").tempdir().expect("a temporary folder");
        Call::new("mount").args(options).arg(what).arg(dir.path()).run().ok();
        Self { dir }
    }

    /// Where it is mounted.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// From now on nothing can be written to it, or again everything.
    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        Call::new("mount").args(["-o", options]).arg(self.dir.path()).run().ok();
    }

    /// Options of an engine's volume that is this mount.
    #[must_use]
    pub fn options(&self) -> [String; 3] {
        bind(self.dir())
    }
}

/// Options of an engine's volume that is this folder.
#[must_use]
pub fn bind(folder: &Path) -> [String; 3] {
    ["type=none".to_owned(), "o=bind".to_owned(), format!("device={}", folder.display())]
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Call::new("umount").args(["-l"]).arg(self.dir.path()).run();
    }
}
