//! Collections because the volume is about to be full. Pure: the time comes in as a parameter.

use std::time::{Duration, Instant};

use agent::room::Room;
use contract::config::Config;

use crate::schedule::Next;

/// After one that left too little free: what would be free by now is what has ended meanwhile.
const PAUSE: Duration = Duration::from_secs(60);
/// The pause doubles up to this.
const LONGEST: Duration = Duration::from_secs(6 * 3600);

/// How much is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Enough.
    Enough,
    /// Less than `collect-below`.
    Collect,
    /// Less than `refuse-below`.
    Refuse,
}

impl Level {
    /// By the configuration.
    #[must_use]
    pub fn of(room: &Room, config: &Config) -> Self {
        let (maintenance, size) = (&config.maintenance, config.builder.store_size);
        if room.below(maintenance.refuse_below, size).is_some() {
            Self::Refuse
        } else if room.below(maintenance.collect_below, size).is_some() {
            Self::Collect
        } else {
            Self::Enough
        }
    }

    /// Whether what has just come in goes as well: when hardly anything is left, and nobody can be about to use it.
    #[must_use]
    pub fn takes_all(self, busy: bool) -> bool {
        self == Self::Refuse && !busy
    }
}

/// The last collection that was not enough.
#[derive(Debug, Clone, Copy)]
struct Tried {
    at: Instant,
    level: Level,
    took_all: bool,
    pause: Duration,
}

/// When to collect for it.
#[derive(Debug, Default)]
pub struct Pressure {
    tried: Option<Tried>,
    /// At the last look.
    seen: Option<Level>,
}

impl Pressure {
    /// Decides.
    pub fn next(&mut self, level: Level, busy: bool, now: Instant) -> Next {
        self.seen = Some(level);
        if level == Level::Enough {
            self.tried = None;
            return Next::OnChange;
        }
        let Some(tried) = self.tried else { return Next::Now };
        // Worse than then, or more may go than then.
        if level > tried.level || (level.takes_all(busy) && !tried.took_all) {
            return Next::Now;
        }
        match tried.at.checked_add(tried.pause) {
            Some(at) if now < at => Next::At(at),
            _ => Next::Now,
        }
    }

    /// One has ended, of whatever cause, and this is how it is now. What it began with counts as well: a level that goes back and forth
    /// is no reason to collect each time that it is back.
    pub fn collected(&mut self, level: Level, took_all: bool, now: Instant) {
        self.tried = (level != Level::Enough).then(|| {
            let pause = self.tried.map_or(PAUSE, |tried| tried.pause.saturating_mul(2).min(LONGEST));
            Tried { at: now, level: self.seen.map_or(level, |seen| seen.max(level)), took_all, pause }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels() {
        let config = Config::default();
        let room = |free_bytes, free_inodes| Room { bytes: 100, free_bytes, inodes: 100, free_inodes };
        for (free, level) in
            [(15, Level::Enough), (14, Level::Collect), (5, Level::Collect), (4, Level::Refuse)]
        {
            assert_eq!(Level::of(&room(free, 100), &config), level, "{free}");
            assert_eq!(Level::of(&room(100, free), &config), level, "{free} inodes");
        }
        assert!(Level::Refuse.takes_all(false));
        assert!(!Level::Refuse.takes_all(true) && !Level::Collect.takes_all(false));
    }

    #[test]
    fn a_level_that_goes_back_and_forth_is_collected_for_once() {
        let start = Instant::now();
        let mut pressure = Pressure::default();
        assert_eq!(pressure.next(Level::Refuse, false, start), Next::Now);
        pressure.collected(Level::Collect, true, start);
        for level in [Level::Collect, Level::Refuse, Level::Collect] {
            assert_eq!(pressure.next(level, false, start), Next::At(start + PAUSE), "{level:?}");
        }
    }

    #[test]
    fn it_is_not_repeated_in_vain() {
        let start = Instant::now();
        let mut pressure = Pressure::default();
        assert_eq!(pressure.next(Level::Enough, false, start), Next::OnChange);
        assert_eq!(pressure.next(Level::Collect, true, start), Next::Now);
        pressure.collected(Level::Collect, false, start);
        assert_eq!(pressure.next(Level::Collect, true, start), Next::At(start + PAUSE));
        assert_eq!(pressure.next(Level::Collect, true, start + PAUSE), Next::Now);
        pressure.collected(Level::Collect, false, start + PAUSE);
        assert_eq!(pressure.next(Level::Collect, true, start + PAUSE), Next::At(start + 3 * PAUSE));
        for _ in 0..20 {
            pressure.collected(Level::Collect, false, start);
        }
        assert_eq!(pressure.next(Level::Collect, true, start), Next::At(start + LONGEST));
        // What is worse, or may do more, does not wait.
        assert_eq!(pressure.next(Level::Refuse, true, start), Next::Now);
        pressure.collected(Level::Refuse, false, start);
        assert_ne!(pressure.next(Level::Refuse, true, start), Next::Now);
        assert_eq!(pressure.next(Level::Refuse, false, start), Next::Now);
        pressure.collected(Level::Refuse, true, start);
        assert_ne!(pressure.next(Level::Refuse, false, start), Next::Now);
        // Enough ends it.
        assert_eq!(pressure.next(Level::Enough, false, start), Next::OnChange);
        assert_eq!(pressure.next(Level::Collect, false, start), Next::Now);
    }
}
