//! Whether a collection is due: by the schedule, or because the volume is about to be full.

use std::time::{Duration, Instant};

use agent::published;
use agent::status::chain;
use contract::handshake::{DiskFull, file};
use contract::places::Container;

use super::Agent;
use crate::pressure::Level;
use crate::schedule::{Next, Situation, When};
use crate::work::Kind;
use crate::{ASKED, PRESSURE, SCHEDULE, store};

/// A change of what is free that is worth telling: of so many parts.
const PARTS: u64 = 100;

/// After the end of a build, until nobody counts it any more.
const SETTLE: Duration = Duration::from_secs(5);

impl Agent<'_> {
    /// Begins a collection if one is due (`None`), or says when the next one is, as far as that is known.
    pub(super) fn due(&mut self, stopping: bool, busy: bool, now: Instant) -> Option<Option<Instant>> {
        let level = self.level();
        if self.was_full() {
            self.heal_by = Some(now + SETTLE);
        }
        // The build may still be counted, and then what it leaves would be spared.
        if let Some(by) = self.heal_by.filter(|_| !stopping) {
            if busy && now < by {
                return Some(Some(by));
            }
            self.heal_by = None;
            self.healed = self.full;
            self.collect(PRESSURE, !busy);
            return None;
        }
        let pressing = match self.pressure.next(level, busy, now) {
            Next::Now if !stopping => {
                self.collect(PRESSURE, level.takes_all(busy));
                return None;
            }
            Next::At(at) => Some(at),
            Next::Now | Next::OnChange => None,
        };
        let calendar = self.config.config().collections();
        let interval = self.config.config().maintenance.interval;
        let situation = Situation {
            ready: true,
            stopping,
            busy,
            when: calendar.as_ref().map_or_else(|| interval.map_or(When::Never, When::Every), When::At),
            unix_now: agent::unix_now(),
        };
        let mut next = self.schedule.next(situation, now);
        if next == Next::Now && self.collected_elsewhere(now) {
            next = self.schedule.next(situation, now);
        }
        match next {
            Next::Now => {
                self.collect(SCHEDULE, false);
                None
            }
            Next::At(at) => Some(Some(pressing.map_or(at, |pressing| pressing.min(at)))),
            Next::OnChange => Some(pressing),
        }
    }

    /// A build has met the end of the volume since the last look. What it had written is gone by now, so that how much is free says
    /// nothing.
    fn was_full(&mut self) -> bool {
        let full: Option<DiskFull> = published::read(self.paths, self.life, Container::User, file::DISK_FULL);
        let at = full.map_or(0, |full| full.at);
        let is_new = at > self.full;
        self.full = self.full.max(at);
        is_new
    }

    fn collect(&mut self, cause: &'static str, all: bool) {
        tracing::info!(cause, all, "a collection begins");
        self.collecting = cause;
        self.begin(Kind::Collect { all });
    }

    /// How full the volume is, told where that has changed.
    pub(super) fn level(&mut self) -> Level {
        let room = match store::room(self.paths) {
            Ok(room) => room,
            Err(error) => {
                tracing::warn!("{}", chain(&error));
                return Level::Enough;
            }
        };
        let config = self.config.config();
        let level = Level::of(&room, config);
        let same = |(told, free): (Level, u64)| {
            told == level && free.abs_diff(room.free_bytes) <= room.bytes / PARTS
        };
        if !self.told.is_some_and(same) {
            if self.told.is_some_and(|(told, _)| told != level) {
                tracing::info!(
                    ?level,
                    free_bytes = room.free_bytes,
                    free_inodes = room.free_inodes,
                    "the volume"
                );
            }
            self.told = Some((level, room.free_bytes));
            if let Err(error) = store::refresh(self.paths, self.life, config, room) {
                tracing::warn!("{}", chain(&error));
            }
        }
        level
    }

    /// A collection that was asked for counts as well. It left its summary, with the wall clock's time: its age is all that is
    /// taken from it, and only if it can be true.
    fn collected_elsewhere(&mut self, now: Instant) -> bool {
        let Some(last) = store::published(self.paths, self.life).and_then(|s| s.last_gc) else {
            return false;
        };
        let Some(ago) = agent::unix_now().checked_sub(last.at) else { return false };
        let asked = last.cause == ASKED && now.checked_sub(Duration::from_secs(ago)).is_some();
        if asked {
            self.schedule.collected(now, Duration::from_secs(ago));
        }
        asked
    }
}
