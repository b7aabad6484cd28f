//! When the next collection is due. Pure: the time comes in as a parameter.

use std::time::{Duration, Instant};

use contract::config::Calendar;
use contract::handshake::{DaemonActivity, SessionKind, UserActivity};

/// After a collection that failed: a full disk should not wait for a day.
const RETRY: Duration = Duration::from_secs(3600);
/// Between two times of a calendar, as far as work may put one off.
const DAY: Duration = Duration::from_secs(86_400);
/// Builders that were started together do not all collect in the same second: this part of the interval, at most, is added.
const JITTER: u32 = 20;

/// When it is to be done.
#[derive(Debug, Clone, Copy)]
pub enum When<'a> {
    /// Only when asked for.
    Never,
    /// So long after the last one.
    Every(Duration),
    /// At these times.
    At(&'a Calendar),
}

/// What matters for it.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// The daemon is ready.
    pub ready: bool,
    /// A stop is asked for, or final.
    pub stopping: bool,
    /// See [`busy`].
    pub busy: bool,
    /// See there.
    pub when: When<'a>,
    /// Seconds since the epoch: what a calendar goes by.
    pub unix_now: u64,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Collect.
    Now,
    /// Decide again then, or when something changes.
    At(Instant),
    /// Decide again when something changes.
    OnChange,
}

/// Counts from the last collection, or from when the daemon was first ready.
#[derive(Debug, Default)]
pub struct Schedule {
    from: Option<Instant>,
    failed: Option<Instant>,
    /// Of 255: which part of what may be added is.
    jitter: u8,
}

impl Schedule {
    /// Puts an interval's end off by a part of it that depends on `seed`.
    pub fn vary(&mut self, seed: &str) {
        self.jitter = seed.bytes().fold(0, |sum: u8, byte| sum.wrapping_mul(31).wrapping_add(byte));
    }

    /// Decides.
    pub fn next(&mut self, situation: Situation<'_>, now: Instant) -> Next {
        let Situation { ready, stopping, busy, when, unix_now } = situation;
        if !ready || stopping {
            return Next::OnChange;
        }
        let from = *self.from.get_or_insert(now);
        let (due, span) = match when {
            When::Never => return Next::OnChange,
            When::Every(interval) => {
                let jitter = interval * u32::from(self.jitter) / (255 * JITTER);
                (from.checked_add(interval + jitter), interval)
            }
            When::At(calendar) => (at(calendar, from, now, unix_now), DAY),
        };
        let due = match self.failed {
            Some(failed) => failed.checked_add(span.min(RETRY)),
            None => due,
        };
        let Some(due) = due else { return Next::OnChange };
        if now < due {
            return Next::At(due);
        }
        // What is at work now may need what nothing else holds yet. But a builder that is never idle fills up: after
        // another interval what protects running builds has to do.
        match due.checked_add(span) {
            Some(latest) if busy && now < latest => Next::At(latest),
            _ => Next::Now,
        }
    }

    /// A collection ended `ago`, ours or one that was asked for.
    pub fn collected(&mut self, now: Instant, ago: Duration) {
        self.from = Some(now.checked_sub(ago).unwrap_or(now));
        self.failed = None;
    }

    /// A collection has just failed.
    pub fn failed(&mut self, now: Instant) {
        self.failed = Some(now);
    }
}

/// The first time of the calendar after `from`, on the clock that nobody sets.
fn at(calendar: &Calendar, from: Instant, now: Instant, unix_now: u64) -> Option<Instant> {
    let due = calendar.after(unix_now.saturating_sub(now.saturating_duration_since(from).as_secs()))?;
    match due.checked_sub(unix_now) {
        Some(ahead) => now.checked_add(Duration::from_secs(ahead)),
        None => now.checked_sub(Duration::from_secs(unix_now - due)).or(Some(now)),
    }
}

/// Builds, jobs, transfers, and whoever does something: they may rely on paths that no root holds yet. What is not known counts as
/// busy.
#[must_use]
pub fn busy(daemon: Option<&DaemonActivity>, user: Option<&UserActivity>) -> bool {
    let (Some(daemon), Some(user)) = (daemon, user) else { return true };
    let works = user.sessions.iter().any(|s| s.kind == SessionKind::Transfer || s.doing.is_some());
    daemon.builds > 0 || !user.jobs.is_empty() || works || user.detached.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Situation<'_> =
        Situation { ready: true, stopping: false, busy: false, when: When::Every(DAY), unix_now: 0 };

    #[test]
    fn the_first_is_due_an_interval_after_ready() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(Situation { ready: false, ..IDLE }, start), Next::OnChange);
        let ready = start + DAY;
        assert_eq!(schedule.next(IDLE, ready), Next::At(ready + DAY));
        assert_eq!(schedule.next(IDLE, ready + DAY / 2), Next::At(ready + DAY));
        assert_eq!(schedule.next(IDLE, ready + DAY), Next::Now);
        schedule.collected(ready + DAY, Duration::ZERO);
        assert_eq!(schedule.next(IDLE, ready + DAY), Next::At(ready + 2 * DAY));
    }

    #[test]
    fn never_while_not_ready_or_stopping_or_switched_off() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.next(IDLE, start);
        for not in [
            Situation { ready: false, ..IDLE },
            Situation { stopping: true, ..IDLE },
            Situation { when: When::Never, ..IDLE },
        ] {
            assert_eq!(schedule.next(not, start + 9 * DAY), Next::OnChange, "{not:?}");
        }
        // The count went on meanwhile.
        assert_eq!(schedule.next(IDLE, start + 9 * DAY), Next::Now);
    }

    #[test]
    fn work_puts_it_off_by_an_interval_at_most() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.next(IDLE, start);
        let busy = Situation { busy: true, ..IDLE };
        assert_eq!(schedule.next(busy, start + DAY), Next::At(start + 2 * DAY));
        assert_eq!(schedule.next(IDLE, start + DAY + DAY / 2), Next::Now);
        assert_eq!(schedule.next(busy, start + 2 * DAY), Next::Now);
    }

    #[test]
    fn after_a_failure_it_is_tried_again_within_the_hour() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.next(IDLE, start);
        schedule.failed(start + DAY);
        assert_eq!(schedule.next(IDLE, start + DAY), Next::At(start + DAY + RETRY));
        let short = Situation { when: When::Every(RETRY / 4), ..IDLE };
        assert_eq!(schedule.next(short, start + DAY), Next::At(start + DAY + RETRY / 4));
        schedule.collected(start + DAY + RETRY, Duration::ZERO);
        assert_eq!(schedule.next(IDLE, start + DAY + RETRY), Next::At(start + 2 * DAY + RETRY));
    }

    #[test]
    fn the_interval_is_live_and_an_asked_for_collection_counts() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.next(IDLE, start);
        let now = start + DAY / 2;
        assert_eq!(schedule.next(Situation { when: When::Every(DAY / 4), ..IDLE }, now), Next::Now);
        schedule.collected(now, DAY / 8);
        assert_eq!(schedule.next(IDLE, now), Next::At(now - DAY / 8 + DAY));
    }

    #[test]
    fn not_all_at_once() {
        let start = Instant::now();
        let mut dues = std::collections::BTreeSet::new();
        for seed in 0..20 {
            let mut schedule = Schedule::default();
            schedule.vary(&format!("life {seed}"));
            let Next::At(due) = schedule.next(IDLE, start) else { panic!("not due yet") };
            assert!(due >= start + DAY && due <= start + DAY + DAY / JITTER);
            dues.insert(due);
        }
        assert!(dues.len() > 10, "{dues:?}");
    }

    #[test]
    fn by_the_calendar_also_what_was_missed() {
        let mut config = contract::config::Config::default();
        config.maintenance.schedule = Some("03:00".to_owned());
        let calendar = config.collections().unwrap();
        let hour = Duration::from_secs(3600);
        let start = Instant::now() + 30 * DAY;
        // 1970-01-11, midnight.
        let night = Situation { when: When::At(&calendar), unix_now: 10 * 86_400, ..IDLE };
        let mut schedule = Schedule::default();
        assert_eq!(schedule.next(night, start), Next::At(start + 3 * hour));
        schedule.collected(start, 20 * hour);
        assert_eq!(schedule.next(night, start), Next::At(start + 3 * hour));
        // The one of the day before was missed.
        schedule.collected(start, 22 * hour);
        assert_eq!(schedule.next(night, start), Next::Now);
        schedule.collected(start, Duration::ZERO);
        let later = Situation { unix_now: night.unix_now + 4 * 3600, ..night };
        assert_eq!(schedule.next(later, start + 4 * hour), Next::Now);
        let busy = Situation { busy: true, ..later };
        assert_eq!(schedule.next(busy, start + 4 * hour), Next::At(start + 27 * hour));
    }
}
