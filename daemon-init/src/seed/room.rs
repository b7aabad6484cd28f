//! Bytes and inodes: what is needed, what is free.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::statvfs::fstatvfs;

use super::error::{Context, StoreError};
use super::pool::{self, Pool};
use super::watch::Watch;

/// Every file system in question hands out whole blocks of this size.
const BLOCK: u64 = 4096;
/// Nix reserves 8 MiB beside its database, and as much is left for journals, extents and directories.
const MARGIN: u64 = 16 << 20;

/// An amount of room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Room {
    /// Bytes, in whole blocks.
    pub bytes: u64,
    /// Inodes. `u64::MAX` where the file system makes them as needed.
    pub inodes: u64,
}

impl Room {
    /// What of `self` does not fit into `free`.
    #[must_use]
    pub fn beyond(self, free: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(free.bytes), inodes: self.inodes.saturating_sub(free.inodes) }
    }

    /// With room for the database (copied, or written twice by way of its journal), roots and the unexpected.
    #[must_use]
    pub(crate) fn with_margin(self, database: u64, roots: u64) -> Self {
        // 2 %: indirect blocks, extent trees, checksums.
        let bytes = self.bytes + self.bytes / 50 + 2 * database + roots * BLOCK + MARGIN;
        Self { bytes, inodes: self.inodes + roots + 64 }
    }

    /// What an unprivileged writer could still use of the file system that holds `dir`: root's reserve is left
    /// alone, since a store that fills it leaves no way out.
    pub(crate) fn free(dir: &File, path: &Path) -> Result<Self, StoreError> {
        let stat = fstatvfs(dir).context("ask for the free room of", path)?;
        let inodes = if stat.files() == 0 { u64::MAX } else { stat.files_available() };
        Ok(Self { bytes: stat.blocks_available() * stat.fragment_size(), inodes })
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} MiB", self.bytes.div_ceil(1 << 20))?;
        match self.inodes {
            u64::MAX => write!(f, " and as many inodes as wanted"),
            inodes => write!(f, " and {inodes} inodes"),
        }
    }
}

/// Adds up what copies of these trees take. Several threads: cold, it is waiting for the disk.
pub(crate) fn of_trees(trees: Vec<PathBuf>, threads: usize, watch: &Watch<'_>) -> Result<Room, StoreError> {
    let (bytes, inodes) = (AtomicU64::new(0), AtomicU64::new(0));
    pool::run(
        threads,
        trees,
        || (),
        |path, (), pool: &Pool<PathBuf>| {
            watch.abort.check()?;
            let stat = std::fs::symlink_metadata(&path).context("look at", &path)?;
            let mut sum = blocks(&stat);
            let mut count = 1;
            if stat.is_dir() {
                for entry in std::fs::read_dir(&path).context("list", &path)? {
                    let entry = entry.context("list", &path)?;
                    if entry.file_type().context("list", &path)?.is_dir() {
                        pool.add(entry.path());
                    } else {
                        sum += blocks(&entry.metadata().context("look at", &entry.path())?);
                        count += 1;
                    }
                }
            }
            bytes.fetch_add(sum, Ordering::Relaxed);
            inodes.fetch_add(count, Ordering::Relaxed);
            Ok(())
        },
    )?;
    Ok(Room { bytes: bytes.into_inner(), inodes: inodes.into_inner() })
}

fn blocks(stat: &std::fs::Metadata) -> u64 {
    stat.size().div_ceil(BLOCK).max(u64::from(stat.is_dir())) * BLOCK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_names_only_what_is_short() {
        let needed = Room { bytes: 10, inodes: 5 };
        assert_eq!(needed.beyond(Room { bytes: 4, inodes: u64::MAX }), Room { bytes: 6, inodes: 0 });
        assert_eq!(needed.beyond(Room { bytes: 40, inodes: 3 }), Room { bytes: 0, inodes: 2 });
    }

    #[test]
    fn amounts_are_readable() {
        assert_eq!(Room { bytes: (3 << 20) + 1, inodes: 7 }.to_string(), "4 MiB and 7 inodes");
    }
}
