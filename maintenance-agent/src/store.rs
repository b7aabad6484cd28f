//! `store.json`: how full it is.

use std::path::PathBuf;

use agent::files;
use agent::paths::Paths;
use contract::handshake::{GcSummary, Life, StoreStatus, file};
use contract::places::Container;
use nix::sys::statvfs::statvfs;

use crate::conversation::{self, Cut};

/// It could not be measured or published.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon did not answer.
    #[error(transparent)]
    Daemon(#[from] conversation::Error),
    /// The file system did not.
    #[error("ask the file system of {}", path.display())]
    Disk {
        /// Where the store is.
        path: PathBuf,
        /// Why.
        source: nix::Error,
    },
    /// The file was not written.
    #[error(transparent)]
    Publish(#[from] files::Error),
}

/// What was published last in this life, by the agent or by a collection that was asked for.
#[must_use]
pub fn published(paths: &Paths, life: &Life) -> Option<StoreStatus> {
    agent::published::read(paths, life, Container::Maintenance, file::STORE)
}

/// Measures and publishes. Without a collection to tell of, that of the last publication stays.
///
/// # Errors
/// See [`Error`].
pub fn publish(paths: &Paths, life: &Life, cut: &Cut, gc: Option<GcSummary>) -> Result<StoreStatus, Error> {
    let (count, nar_bytes) = conversation::measure(paths, cut)?;
    let disk = statvfs(&paths.nix).map_err(|source| Error::Disk { path: paths.nix.clone(), source })?;
    let status = StoreStatus {
        life: life.clone(),
        paths: count,
        nar_bytes,
        fs_bytes: disk.blocks().saturating_mul(disk.fragment_size()),
        // What is reserved for root is not free for us, but it is for the daemon: it is root.
        fs_free_bytes: disk.blocks_free().saturating_mul(disk.fragment_size()),
        fs_inodes: disk.files(),
        fs_free_inodes: disk.files_free(),
        at: agent::unix_now(),
        last_gc: gc.or_else(|| published(paths, life)?.last_gc),
    };
    files::write_json(&paths.run_dir(Container::Maintenance), file::STORE, &status)?;
    Ok(status)
}
