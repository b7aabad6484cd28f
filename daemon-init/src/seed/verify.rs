//! After a machine has gone down under a running builder: is what was registered last really there? Paths that a checkpoint vouches for
//! are left alone, so that this takes as long as what was new then is large.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use agent::nar::{self, Cache};

use super::error::{Context, StoreError};
use super::image::STORE_DIR;
use super::registration::{self, Entry};
use super::watch::Watch;
use super::{Image, mend, pool, register};
use crate::volume::Volume;

/// Clocks are set back by so much now and then, in seconds.
const SLACK: i64 = 600;
/// Progress is told as often as this.
const TELL_EVERY: u64 = 16 << 20;
/// Threads that read and hash: a disk wants several, the hash one for each CPU.
const THREADS: usize = 8;

/// A path whose content is not what was registered, and what is wrong with it.
pub(crate) type Wrong<'a> = (&'a Entry<'a>, String);

/// What was found.
#[derive(Debug, Default)]
pub struct Verified {
    /// Paths that were read.
    pub paths: usize,
    /// Their size.
    pub bytes: u64,
    /// What was wrong, and what became of it.
    pub damaged: Vec<contract::damage::Damaged>,
}

/// Verifies what changed since (seconds since the epoch, by the file system's clock) and what is `named`, and removes or restores what is damaged. Nothing
/// else may use the store meanwhile.
///
/// # Errors
/// Nix's own, the disk's, `abort`; it is to be done again then.
pub fn since(
    volume: &mut Volume,
    image: &Image,
    since: i64,
    named: &[String],
    watch: &Watch<'_>,
) -> Result<Verified, StoreError> {
    if !register::has_database(volume) {
        return Ok(Verified::default());
    }
    let text = image.nix_store(volume.root())?.dump_db(Some(volume.lock()), watch.abort)?;
    let Some(entries) = registration::parse(&text) else {
        return Err(image.broken("its nix-store does not say which paths the volume's store holds"));
    };
    let (mut read, mut wrong) = (HashSet::new(), Vec::new());
    let mut suspects = suspects(volume, &entries, since.saturating_sub(SLACK))?;
    let is_named = |entry: &&Entry<'_>| named.iter().any(|name| name == entry.path);
    let more: Vec<_> = entries.iter().filter(is_named).filter(|entry| !suspects.contains(entry)).collect();
    suspects.extend(more);
    let (mut paths, mut bytes) = (0, 0);
    // Files of what is damaged may be files of other paths as well.
    while !suspects.is_empty() {
        paths += suspects.len();
        bytes += suspects.iter().map(|entry| entry.size).sum::<u64>();
        read.extend(suspects.iter().map(|entry| entry.path));
        let found = check(volume, suspects, watch)?;
        suspects = sharing(volume, &entries, &found, &read)?;
        wrong.extend(found);
    }
    let damaged = mend::mend(volume, image, &entries, &wrong, watch)?;
    Ok(Verified { paths, bytes, damaged })
}

/// What changed since then, what is not there, and what somebody was about to change: a collection that was cut off has made the folder
/// writable, and that it had declared the path invalid before may be lost.
fn suspects<'a>(
    volume: &Volume,
    entries: &'a [Entry<'a>],
    since: i64,
) -> Result<Vec<&'a Entry<'a>>, StoreError> {
    let mut suspects = Vec::new();
    for entry in entries {
        let path = place(volume, entry);
        let is_suspect = match fs::symlink_metadata(&path) {
            Ok(meta) => {
                let writable = !meta.is_symlink() && meta.mode() & 0o222 != 0;
                meta.ctime() >= since || meta.mtime() != 1 || writable
            }
            Err(error) if nar::is_damage(&error) => true,
            Err(error) => return Err(StoreError::io("look at", &path, error)),
        };
        if is_suspect {
            suspects.push(entry);
        }
    }
    Ok(suspects)
}

/// Reads them all.
fn check<'a>(
    volume: &Volume,
    suspects: Vec<&'a Entry<'a>>,
    watch: &Watch<'_>,
) -> Result<Vec<Wrong<'a>>, StoreError> {
    let total = suspects.iter().map(|entry| entry.size).sum();
    let (done, wrong) = (AtomicU64::new(0), Mutex::new(Vec::new()));
    let work = |entry: &'a Entry<'a>, (): &mut (), _: &pool::Pool<_>| {
        if let Some(what) = wrong_with(&place(volume, entry), entry, &mut |bytes| {
            let before = done.fetch_add(bytes, Ordering::Relaxed);
            if before / TELL_EVERY != (before + bytes) / TELL_EVERY {
                watch.observer.progress((before + bytes).min(total), total);
            }
            watch.abort.check()
        })? {
            wrong.lock().unwrap_or_else(PoisonError::into_inner).push((entry, what));
        }
        Ok(())
    };
    pool::run(THREADS, suspects, || (), work)?;
    Ok(wrong.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// `None`: it is what was registered.
pub(super) fn wrong_with(
    path: &Path,
    entry: &Entry<'_>,
    go_on: &mut dyn FnMut(u64) -> Result<(), StoreError>,
) -> Result<Option<String>, StoreError> {
    let mut stop = None;
    let read = nar::hash(path, Cache::Keep, &mut |bytes| {
        go_on(bytes).map_err(|error| {
            stop = Some(error);
            io::ErrorKind::Interrupted.into()
        })
    });
    match read {
        Ok(archive) if archive.hash == entry.hash => Ok(None),
        Ok(archive) if archive.size != entry.size => {
            Ok(Some(format!("it is archived in {} bytes instead of {}", archive.size, entry.size)))
        }
        Ok(_) => Ok(Some("its content is not what was registered".to_owned())),
        Err(error) => match stop {
            Some(stop) => Err(stop),
            None if nar::is_damage(&error) => Ok(Some(format!("parts of it cannot be read: {error}"))),
            None => Err(StoreError::io("read", path, error)),
        },
    }
}

/// Those that have a file in common with what is damaged: Nix links identical files to each other. Its own list of files forgets them.
fn sharing<'a>(
    volume: &Volume,
    entries: &'a [Entry<'a>],
    damaged: &[Wrong<'a>],
    read: &HashSet<&str>,
) -> Result<Vec<&'a Entry<'a>>, StoreError> {
    let mut shared = HashSet::new();
    for (entry, _) in damaged {
        files(&place(volume, entry), &mut |inode, links| {
            if links > 1 {
                shared.insert(inode);
            }
        });
    }
    if shared.is_empty() {
        return Ok(Vec::new());
    }
    let links = volume.store_path(".links");
    for entry in fs::read_dir(&links).into_iter().flatten().flatten() {
        if entry.metadata().is_ok_and(|meta| shared.contains(&meta.ino())) {
            fs::remove_file(entry.path()).context("remove", &entry.path())?;
        }
    }
    let unread = entries.iter().filter(|entry| !read.contains(entry.path));
    let has_one = |entry: &&Entry<'_>| {
        let mut found = false;
        files(&place(volume, entry), &mut |inode, links| found |= links > 1 && shared.contains(&inode));
        found
    };
    Ok(unread.filter(has_one).collect())
}

/// Inode and number of links of each file in a tree, as far as it can be read.
fn files(path: &Path, each: &mut dyn FnMut(u64, u64)) {
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if meta.is_file() {
        each(meta.ino(), meta.nlink());
    } else if meta.is_dir() {
        fs::read_dir(path).into_iter().flatten().flatten().for_each(|entry| files(&entry.path(), each));
    }
}

/// Where it lies.
pub(super) fn place(volume: &Volume, entry: &Entry<'_>) -> std::path::PathBuf {
    volume.store_path(entry.path.strip_prefix(STORE_DIR).unwrap_or_default())
}
