//! `store.json`: how full it is.

use std::io;
use std::path::PathBuf;

use agent::files;
use agent::paths::Paths;
use agent::room::{Room, bytes};
use contract::config::{Config, Maintenance};
use contract::handshake::{GcSummary, Life, StoreStatus, file};
use contract::places::Container;

use crate::conversation;
use crate::cut::Cut;
use crate::{ASKED, PRESSURE};

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
        source: io::Error,
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

/// How full the store's file system is.
///
/// # Errors
/// See [`Error`].
pub fn room(paths: &Paths) -> Result<Room, Error> {
    Room::of_store(&paths.nix).map_err(|source| Error::Disk { path: paths.nix.clone(), source })
}

/// Measures and publishes. Without a collection to tell of, that of the last publication stays.
///
/// # Errors
/// See [`Error`].
pub fn publish(
    paths: &Paths,
    life: &Life,
    config: &Config,
    cut: &Cut,
    gc: Option<GcSummary>,
) -> Result<StoreStatus, Error> {
    let (count, nar_bytes) = conversation::measure(paths, cut)?;
    let last_gc = gc.or_else(|| published(paths, life)?.last_gc);
    write(paths, life, config, (count, nar_bytes), room(paths)?, last_gc)
}

/// Publishes how full the file system is by now, and leaves the rest as it was measured last.
///
/// # Errors
/// See [`Error`].
pub fn refresh(paths: &Paths, life: &Life, config: &Config, room: Room) -> Result<(), Error> {
    let Some(last) = published(paths, life) else { return Ok(()) };
    write(paths, life, config, (last.paths, last.nar_bytes), room, last.last_gc).map(drop)
}

fn write(
    paths: &Paths,
    life: &Life,
    config: &Config,
    (count, nar_bytes): (u64, u64),
    room: Room,
    last_gc: Option<GcSummary>,
) -> Result<StoreStatus, Error> {
    let status = StoreStatus {
        life: life.clone(),
        paths: count,
        nar_bytes,
        fs_bytes: room.bytes,
        fs_free_bytes: room.free_bytes,
        fs_inodes: room.inodes,
        fs_free_inodes: room.free_inodes,
        at: agent::unix_now(),
        short: short(&room, config, last_gc.as_ref()),
        last_gc,
    };
    files::write_json(&paths.run_dir(Container::Maintenance), file::STORE, &status)?;
    Ok(status)
}

/// What there is too little of, and what to do about it, in words for a person.
fn short(room: &Room, config: &Config, last_gc: Option<&GcSummary>) -> Option<String> {
    let (Maintenance { refuse_below, collect_below, .. }, size) =
        (&config.maintenance, config.builder.store_size);
    let mut text = match (room.below(*refuse_below, size), room.below(*collect_below, size)) {
        (Some(free), _) => format!("{free}, below `refuse-below` ({refuse_below}): builds are refused"),
        (None, Some(free)) => format!("{free}, below `collect-below` ({collect_below})"),
        (None, None) => return None,
    };
    if let Some(gc) = last_gc.filter(|gc| gc.cause == PRESSURE || gc.cause == ASKED) {
        text.push_str(&format!(
            "; the last collection has freed {}, what is left is held (`trampoline-cli roots ls`) or has just come in",
            bytes(gc.freed_bytes)
        ));
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_is_said_with_what_to_do() {
        let mut config = Config::default();
        config.builder.store_size = contract::config::Size::gib(200);
        let room = |free_bytes: u64| Room {
            bytes: 100 << 30,
            free_bytes: free_bytes << 30,
            inodes: 0,
            free_inodes: 0,
        };
        assert_eq!(short(&room(20), &config, None), None);
        let text = short(&room(10), &config, None).unwrap();
        assert_eq!(text, "10.0 GiB of 100.0 GiB are free, below `collect-below` (15%)");
        let gc = GcSummary { cause: PRESSURE.into(), freed_bytes: 1 << 20, ..GcSummary::default() };
        let text = short(&room(1), &config, Some(&gc)).unwrap();
        assert!(
            text.contains(
                "below `refuse-below` (5%): builds are refused; the last collection has freed 1.0 MiB"
            ),
            "{text}"
        );
        assert!(text.contains("roots ls"), "{text}");
    }
}
