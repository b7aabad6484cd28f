//! When the next collection is due. Pure: the time comes in as a parameter.

use std::time::{Duration, Instant};

use contract::handshake::{DaemonActivity, SessionKind, UserActivity};

/// After a collection that failed: a full disk should not wait for a day.
const RETRY: Duration = Duration::from_secs(3600);

/// What matters for it.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// The daemon is ready.
    pub ready: bool,
    /// A stop is asked for, or final.
    pub stopping: bool,
    /// See [`busy`].
    pub busy: bool,
    /// `[maintenance] interval`; `None`: never.
    pub interval: Option<Duration>,
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
}

impl Schedule {
    /// Decides.
    pub fn next(&mut self, situation: Situation, now: Instant) -> Next {
        let Situation { ready, stopping, busy, interval } = situation;
        if !ready || stopping {
            return Next::OnChange;
        }
        let from = *self.from.get_or_insert(now);
        let Some(interval) = interval else { return Next::OnChange };
        let due = match self.failed {
            Some(failed) => failed.checked_add(interval.min(RETRY)),
            None => from.checked_add(interval),
        };
        let Some(due) = due else { return Next::OnChange };
        if now < due {
            return Next::At(due);
        }
        // What is at work now may need what nothing else holds yet. But a builder that is never idle fills up: after
        // another interval Nix's own protection of running builds has to do.
        match due.checked_add(interval) {
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

/// Builds, jobs and transfers: they may rely on paths that no root holds yet. What is not known counts as busy.
#[must_use]
pub fn busy(daemon: Option<&DaemonActivity>, user: Option<&UserActivity>) -> bool {
    let (Some(daemon), Some(user)) = (daemon, user) else { return true };
    let transfer = user.sessions.iter().any(|session| session.kind == SessionKind::Transfer);
    daemon.builds > 0 || !user.jobs.is_empty() || transfer
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const IDLE: Situation = Situation { ready: true, stopping: false, busy: false, interval: Some(DAY) };

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
            Situation { interval: None, ..IDLE },
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
        let short = Situation { interval: Some(RETRY / 4), ..IDLE };
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
        assert_eq!(schedule.next(Situation { interval: Some(DAY / 4), ..IDLE }, now), Next::Now);
        schedule.collected(now, DAY / 8);
        assert_eq!(schedule.next(IDLE, now), Next::At(now - DAY / 8 + DAY));
    }
}
