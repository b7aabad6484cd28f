//! What killed runs leave behind: renamed aside at once, deleted only when the builder is ready. ext4 looks long for
//! inodes that were not just deleted, so deleting first makes the next copy many times slower.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::abort::Abort;
use super::error::{Context, StoreError};
use crate::volume::{Volume, make_folder};

/// Below the mark folder: paths on their way into the store.
const STAGING: &str = "staging";
/// Below the mark folder: one folder per killed run, and single paths that were in the way.
const LEFTOVERS: &str = "leftovers";

/// An empty folder for this run.
pub(super) fn make_staging(volume: &Volume) -> Result<PathBuf, StoreError> {
    let staging = volume.mark_dir().join(STAGING);
    make_folder(&staging, 0o700)?;
    Ok(staging)
}

/// Nothing is in it any more.
pub(super) fn remove_staging(staging: &Path) -> Result<(), StoreError> {
    fs::remove_dir(staging).context("remove", staging)
}

/// Moves the staging folder of a killed run aside.
pub(super) fn set_staging_aside(volume: &Volume) -> Result<(), StoreError> {
    let staging = volume.mark_dir().join(STAGING);
    match fs::symlink_metadata(&staging) {
        Ok(_) => set_aside(volume, &staging),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(StoreError::io("look at", &staging, error)),
    }
}

/// Moves anything on the volume aside, under a name that is free.
pub(super) fn set_aside(volume: &Volume, path: &Path) -> Result<(), StoreError> {
    move_aside(&volume.mark_dir(), path).map(drop)
}

/// The same, given the mark folder of the volume; says where it is now, if there was a free name.
pub(crate) fn move_aside(mark_dir: &Path, path: &Path) -> Result<Option<PathBuf>, StoreError> {
    let leftovers = mark_dir.join(LEFTOVERS);
    make_folder(&leftovers, 0o700)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let free = (0_u64..)
        .map(|n| leftovers.join(format!("{n}-{name}")))
        .find(|to| fs::symlink_metadata(to).is_err_and(|e| e.kind() == ErrorKind::NotFound));
    let Some(to) = free else { return Ok(None) };
    match fs::rename(path, &to) {
        // Whoever moves a folder must be able to write to it, be it root, unless that may override anything.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            fs::set_permissions(path, Permissions::from_mode(0o755)).context("open for moving", path)?;
            fs::rename(path, &to).context("move aside", path)?;
        }
        moved => moved.context("move aside", path)?,
    }
    Ok(Some(to))
}

/// Deletes what earlier runs left behind. To be called when the builder is ready: it takes its time, and may be
/// ended at any moment. Says how many folders or paths there were.
///
/// # Errors
/// A file that cannot be deleted; `abort`.
pub fn delete_leftovers(volume: &Volume, abort: &Abort) -> Result<usize, StoreError> {
    let leftovers = volume.mark_dir().join(LEFTOVERS);
    let entries = match fs::read_dir(&leftovers) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(StoreError::io("list", &leftovers, error)),
    };
    let mut count = 0;
    for entry in entries {
        let entry = entry.context("list", &leftovers)?;
        delete_tree(&entry.path(), abort)?;
        count += 1;
    }
    fs::remove_dir(&leftovers).context("delete", &leftovers)?;
    Ok(count)
}

/// Deletes a tree, without following links; ended between any two files.
///
/// # Errors
/// A file that cannot be deleted; `abort`.
pub fn delete_tree(path: &Path, abort: &Abort) -> Result<(), StoreError> {
    abort.check()?;
    if !fs::symlink_metadata(path).context("look at", path)?.is_dir() {
        return fs::remove_file(path).context("delete", path);
    }
    for entry in fs::read_dir(path).context("list", path)? {
        delete_tree(&entry.context("list", path)?.path(), abort)?;
    }
    fs::remove_dir(path).context("delete", path)
}
