//! When the store's volume is full: nothing is taken that would fill it further, and a build that has met the end of it is told of the
//! collection that follows.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use agent::files;
use agent::published;
use agent::room::{Room, bytes};
use agent::status::chain;
use contract::config::Share;
use contract::handshake::{DiskFull, StoreStatus, file};
use contract::places::Container;
use contract::room::brings_paths;
use nix::sys::wait::WaitStatus;

use super::CONTAINER;
use super::server::Server;
use crate::control::Request;
use crate::error::Error;
use crate::job::{Ending, Running};

/// A collection has begun to free by then. What it still frees after that, the next build will see.
const PATIENCE: Duration = Duration::from_secs(60);
/// What was freed so many seconds before its end, was freed while the build filled the volume.
const BEFORE: u64 = 120;
/// Collections that are remembered for it.
const REMEMBERED: usize = 8;
/// The end of a log in which the reason stands.
const TAIL: u64 = 64 << 10;
/// As the C library and SQLite say it.
const FULL: [&[u8]; 2] = [b"No space left on device", b"database or disk is full"];

/// A build that met the end of the volume, and has ended.
#[derive(Debug)]
pub(super) struct Healing {
    job: Running,
    status: WaitStatus,
    alone: bool,
    /// Seconds since the epoch.
    since: u64,
    until: Instant,
}

impl Server<'_> {
    /// Why this is not taken, if it would build or bring paths in, and there is too little room.
    pub(super) fn no_room(&mut self, request: &Request) -> Option<Error> {
        let fills = match request {
            Request::Build(_) => true,
            Request::Session { command, .. } => brings_paths(command),
            _ => false,
        };
        let share = self.config.config().maintenance.refuse_below;
        let free = fills.then(|| self.below(share)).flatten()?;
        // Whoever collects when there is too little room looks when something is published.
        self.publish(false);
        Some(Error::NoRoom(format!(
            "the store's volume is full: {free}, below `refuse-below` ({share}), so that nothing is taken that builds or brings in \
             store paths; what runs goes on, and a collection begins by itself\nhint: `trampoline-cli maintenance --older-than 0s` \
             deletes all that nothing holds, `trampoline-cli roots ls` tells what holds the rest"
        )))
    }

    fn below(&self, share: Share) -> Option<String> {
        match Room::of_store(&self.paths().nix) {
            Ok(room) => room.below(share, self.config.config().builder.store_size),
            Err(error) => {
                tracing::warn!(%error, "how full the store's volume is, is not known");
                None
            }
        }
    }

    /// Ends the job; or, if it has met the end of the volume, when it is known what could be freed.
    pub(super) fn conclude(&mut self, job: Running, status: WaitStatus, alone: bool) {
        let failed = !matches!(status, WaitStatus::Exited(_, 0));
        // What it had written is gone by now, so that how much is free says nothing.
        if !failed || self.leaving.is_some() || !met_the_end(&job.log()) {
            return job.finish(status, alone);
        }
        let since = agent::unix_now();
        let full = DiskFull { life: self.life.clone(), at: since };
        if let Err(error) = files::write_json(&self.paths().run_dir(CONTAINER), file::DISK_FULL, &full) {
            tracing::warn!("nobody is told of a full disk: {}", chain(&error));
            return job.finish(status, alone);
        }
        tracing::info!(job = job.id, "the disk was full; waiting for what a collection frees");
        self.healing.push(Healing { job, status, alone, since, until: Instant::now() + PATIENCE });
    }

    /// When [`Self::heal`] is due.
    pub(super) fn heal_deadline(&self) -> Option<Instant> {
        self.healing.iter().map(|healing| healing.until).min()
    }

    /// Tells those of whom the collection is over, or late.
    pub(super) fn heal(&mut self) {
        let store: Option<StoreStatus> =
            published::read(self.paths(), self.life, Container::Maintenance, file::STORE);
        let gc = store.and_then(|store| store.last_gc).filter(|gc| !gc.dry_run);
        let (last, healed) = (gc.as_ref().map(|gc| (gc.at, gc.freed_bytes)), gc.map_or(0, |gc| gc.healed));
        // One may have begun while the build still ran, and spared what had just come in.
        if let Some(last) = last.filter(|last| !self.collections.contains(last)) {
            self.collections.truncate(REMEMBERED - 1);
            self.collections.insert(0, last);
        }
        let (now, leaving) = (Instant::now(), self.leaving.is_some());
        let mut ended = Vec::new();
        for mut healing in std::mem::take(&mut self.healing) {
            let over = healed >= healing.since;
            let of_it = self.collections.iter().filter(|(at, _)| at + BEFORE >= healing.since);
            let note = match over.then(|| of_it.map(|(_, freed)| freed).sum::<u64>()) {
                Some(freed) if freed > 0 => format!("the disk was full, {} were freed, run again", bytes(freed)),
                Some(_) => {
                    "the disk was full, and nothing could be freed: `trampoline-cli roots ls` tells what holds it".into()
                }
                None if now >= healing.until || leaving => {
                    "the disk was full, and a collection is not over yet: `trampoline-cli status` tells how much is free".into()
                }
                None => {
                    self.healing.push(healing);
                    continue;
                }
            };
            healing.job.explain(Ending::Full(note));
            ended.push(healing);
        }
        if ended.is_empty() {
            return;
        }
        // They were no idle time.
        self.publish(true);
        ended.into_iter().for_each(|healing| healing.job.finish(healing.status, healing.alone));
    }
}

fn met_the_end(log: &Path) -> bool {
    let tail = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        file.take(TAIL).read_to_end(&mut tail)?;
        Ok(tail)
    };
    match tail() {
        Ok(tail) => FULL.iter().any(|words| tail.windows(words.len()).any(|window| window == *words)),
        Err(error) => {
            tracing::debug!("{}", chain(&error));
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_found_at_the_end_of_a_log() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        assert!(!met_the_end(&log));
        std::fs::write(&log, "error: writing to file: No space left on device\n").unwrap();
        assert!(met_the_end(&log));
        std::fs::write(&log, [b"No space left on device".as_slice(), &[b' '; 70_000]].concat()).unwrap();
        assert!(!met_the_end(&log), "that was long ago");
    }
}
