//! Nix's database, where Nix has no command for what is needed. What stands in it is Nix's alone.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use agent::paths::Paths;
use rusqlite::{Connection, OpenFlags};

/// Writers have it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Builds wait as long.
const BRIEF: Duration = Duration::from_millis(100);
/// Nix lets the log grow to 160 MB before it writes it back, or until nobody has the database open.
pub const LONG: u64 = 4 << 20;

/// It is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("open or lock {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: rusqlite::Error,
}

fn path(paths: &Paths) -> PathBuf {
    paths.nix.join("var/nix/db/db.sqlite")
}

fn open(paths: &Paths, patience: Duration) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path(paths), flags)?;
    connection.busy_timeout(patience)?;
    Ok(connection)
}

/// While this lives no path becomes valid and none is deleted, and all reading goes on.
#[derive(Debug)]
pub(crate) struct Still {
    _transaction: Connection,
}

impl Still {
    /// Waits a second at most for whoever writes.
    ///
    /// # Errors
    /// When it cannot be opened, or somebody else keeps it locked.
    pub(crate) fn hold(paths: &Paths) -> Result<Self, Error> {
        let begin = || {
            let connection = open(paths, PATIENCE)?;
            // Nothing is written, so there is nothing to end but the connection.
            connection.execute_batch("BEGIN IMMEDIATE")?;
            Ok(Self { _transaction: connection })
        };
        begin().map_err(|source| Error { path: path(paths), source })
    }
}

/// Writes the log back into the database where it has become long. What somebody still reads of it is left for the next time.
///
/// # Errors
/// When it cannot be opened or written.
pub(crate) fn shorten_log(paths: &Paths) -> Result<(), Error> {
    let log = fs::metadata(path(paths).with_extension("sqlite-wal")).map_or(0, |log| log.len());
    if log < LONG {
        return Ok(());
    }
    let shortened = open(paths, BRIEF)
        .and_then(|connection| connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    shortened.map_err(|source| Error { path: path(paths), source })
}
