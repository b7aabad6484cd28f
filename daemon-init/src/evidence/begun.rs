//! Builds that have begun, exactly: one that ends before anybody looks for its lock has had a folder all the same.

use std::io;
use std::path::Path;

use agent::watch::DirWatch;

/// Nix makes each build a folder of its own in the build directory (`createTempDir` in `startBuilder`).
#[derive(Debug)]
pub(super) struct Begun {
    made: DirWatch,
}

impl Begun {
    /// From now on, in the build directory `dir`.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(super) fn watch(dir: &Path) -> io::Result<Self> {
        let mut made = DirWatch::new()?;
        made.add_made(dir)?;
        Ok(Self { made })
    }

    /// Since the last call. `None` where the kernel does not tell, or has told of more than it keeps.
    pub(super) fn take(&mut self) -> Option<u64> {
        let names = self.made.drain_names()?;
        Some(names.iter().filter(|name| name.as_encoded_bytes().starts_with(b"nix-")).count() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn builds_count_that_are_over_when_somebody_looks() {
        let dir = tempfile::tempdir().unwrap();
        let mut begun = Begun::watch(dir.path()).unwrap();
        assert_eq!(begun.take(), Some(0));
        for name in ["nix-build-a.drv-0", "nix-build-b.drv-0", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("nix-file"), "").unwrap();
            fs::remove_dir_all(dir.path().join(name)).unwrap();
        }
        assert_eq!(begun.take(), Some(2));
        assert_eq!(begun.take(), Some(0));
    }
}
