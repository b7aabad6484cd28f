//! A small file system of the scenario's own, to be a builder's volume.

use tempfile::TempDir;

use crate::call::Call;

/// A tmpfs that is unmounted when this is dropped.
#[derive(Debug)]
pub struct Mount {
    dir: TempDir,
    device: String,
}

impl Mount {
    /// Mounted with these options.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    pub fn new(options: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("t-volume-").tempdir().expect("a temporary folder");
        Call::new("mount").args(["-t", "tmpfs", "-o", options, "t-volume"]).arg(dir.path()).run().ok();
        let device = format!("device={}", dir.path().display());
        Self { dir, device }
    }

    /// From now on nothing can be written to it, or again everything.
    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        Call::new("mount").args(["-o", options]).arg(self.dir.path()).run().ok();
    }

    /// Options of an engine's volume that is this mount.
    #[must_use]
    pub fn options(&self) -> [&str; 3] {
        ["type=none", "o=bind", &self.device]
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Call::new("umount").args(["-l"]).arg(self.dir.path()).run();
    }
}
