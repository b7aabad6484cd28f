//! Where builds work: a folder on a volume of its own, a new one at each start, so that no build fills the store's volume and none
//! meets what another start has left.

pub mod usage;

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::seed;
use crate::seed::abort::Abort;
use crate::seed::error::StoreError;

/// Below the volume's root: that of this start.
const NOW: &str = "now";
/// Below the volume's root, with a number: those of earlier starts.
const BEFORE: &str = "before-";

/// It cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("make a new build directory on {}", volume.display())]
pub struct Error {
    /// The volume's root.
    volume: PathBuf,
    /// Why.
    source: io::Error,
}

/// The folder of a start that is under way.
#[must_use]
pub fn of(volume: &Path) -> PathBuf {
    volume.join(NOW)
}

/// Makes it, and moves that of the start before out of the way: it takes its time to delete. False: the pod was made without such
/// a volume. To be called while no build can run.
///
/// # Errors
/// When the volume cannot be written; one that is full is emptied first.
pub fn renew(volume: &Path) -> Result<bool, Error> {
    let failed = |source| Error { volume: volume.to_owned(), source };
    match set_aside(volume) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        done => done.map_err(failed)?,
    }
    // Nix gives each build a folder of its own in it that only its build user can enter.
    let make = || fs::DirBuilder::new().mode(0o755).create(of(volume));
    match make() {
        Err(error) if error.kind() == ErrorKind::StorageFull => {
            if let Err(error) = delete_before(volume, &Abort::new()) {
                tracing::warn!("{}", agent::status::chain(&error));
            }
            make()
        }
        made => made,
    }
    .map_err(failed)?;
    Ok(true)
}

/// What an earlier start has left gets a name that is free.
fn set_aside(volume: &Path) -> io::Result<()> {
    let taken: Vec<_> = fs::read_dir(volume)?.flatten().map(|entry| entry.file_name()).collect();
    if !taken.iter().any(|name| name == NOW) {
        return Ok(());
    }
    let free =
        (0_u64..).map(|n| format!("{BEFORE}{n}")).find(|name| !taken.iter().any(|other| **other == **name));
    fs::rename(of(volume), volume.join(free.unwrap_or_default()))
}

/// Deletes what earlier starts have left. Says how many folders there were.
///
/// # Errors
/// A file that cannot be deleted; `abort`.
pub fn delete_before(volume: &Path, abort: &Abort) -> Result<usize, StoreError> {
    let mut deleted = 0;
    for entry in fs::read_dir(volume).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(BEFORE) {
            seed::delete_tree(&entry.path(), abort)?;
            deleted += 1;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, symlink};

    use super::*;

    #[test]
    fn each_start_has_a_new_one_and_deletes_those_before() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("build");
        assert!(!renew(&volume).unwrap(), "a pod without the volume");
        fs::create_dir(&volume).unwrap();
        fs::create_dir(volume.join("lost+found")).unwrap();
        let kept = dir.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        for _ in 0..3 {
            assert!(renew(&volume).unwrap());
            assert_eq!(fs::read_dir(of(&volume)).unwrap().count(), 0);
            let build = of(&volume).join("nix-build-x");
            fs::create_dir(&build).unwrap();
            symlink(&kept, build.join("link")).unwrap();
        }
        assert_eq!(fs::metadata(of(&volume)).unwrap().mode() & 0o7777, 0o755);
        assert_eq!(delete_before(&volume, &Abort::new()).unwrap(), 2);
        assert_eq!(fs::read_dir(&volume).unwrap().count(), 2, "lost+found and the present one");
        assert_eq!(fs::read(kept.join("file")).unwrap(), b"x", "no link is followed");
        let gone = Abort::new();
        gone.trigger();
        renew(&volume).unwrap();
        assert!(matches!(delete_before(&volume, &gone), Err(StoreError::Aborted)));
    }
}
