//! How much one step of a collection deletes. Pure.
//!
//! Each step looks anew at what is in use and which roots there are, and lets whoever waits for Nix's lock in between two of them. That
//! costs the time until its first deletion, which must stay a small part of the whole.

use std::time::Duration;

use worker_protocol::GcOutcome;

/// Long enough that beginnings do not count, short enough that nobody minds.
const STEP: Duration = Duration::from_secs(2);
/// So much longer than its beginning is a step at least.
const TIMES_ITS_BEGINNING: u32 = 8;
/// The first one gives something back soon, and many paths may be small.
const FIRST: u64 = 8 << 20;
/// Paths of no size go as well.
const LEAST: u64 = 1 << 20;
/// Nix writes 28 KiB to its database's log for each deleted path (2.8), and empties it when nobody has the database open any more, as
/// between two steps. So it stays below 64 MiB, while nobody works.
const MOST_PATHS: u64 = 2000;
/// From one step to the next.
const GROWTH: u64 = 8;

/// What the next step may free, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pace(u64);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    /// Bytes, of which the daemon may free a little more than asked for.
    pub(crate) fn budget(self) -> u64 {
        self.0
    }

    /// After a step that took `took`, of it `beginning` before its first deletion.
    pub(crate) fn after(self, step: GcOutcome, took: Duration, beginning: Duration) -> Self {
        let freed = step.bytes_freed;
        let target = STEP.max(beginning.saturating_mul(TIMES_ITS_BEGINNING));
        let work = took.saturating_sub(beginning).max(Duration::from_millis(1));
        let fitting = u128::from(freed) * target.as_millis() / work.as_millis().max(1);
        let fitting = u64::try_from(fitting).unwrap_or(u64::MAX);
        let of_paths = freed.saturating_mul(MOST_PATHS) / step.paths.max(1);
        Self(fitting.min(self.0.saturating_mul(GROWTH)).min(of_paths).max(LEAST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn step(bytes_freed: u64, paths: u64) -> GcOutcome {
        GcOutcome { paths, bytes_freed }
    }

    #[test]
    fn a_step_takes_its_time() {
        let first = Pace::default();
        // 8 MiB in a second.
        assert_eq!(first.after(step(FIRST, 4), SECOND, Duration::ZERO).budget(), 2 * FIRST);
        assert_eq!(first.after(step(FIRST, 4), 60 * SECOND, Duration::ZERO).budget(), LEAST);
        let quick = first.after(step(FIRST, 4), Duration::ZERO, Duration::ZERO);
        assert_eq!(quick.budget(), GROWTH * FIRST, "not at once");
    }

    #[test]
    fn where_beginning_takes_long_steps_are_longer() {
        // A store in which it takes five seconds to find the roots, and one to delete 8 MiB.
        let next = Pace::default().after(step(FIRST, 4), 6 * SECOND, 5 * SECOND);
        assert_eq!(next.budget(), GROWTH * FIRST);
        assert_eq!(next.after(step(GROWTH * FIRST, 4), 13 * SECOND, 5 * SECOND).budget(), 40 * FIRST);
    }

    #[test]
    fn of_small_paths_it_deletes_so_many_at_once() {
        let first = Pace::default();
        assert_eq!(
            first.after(step(FIRST, 1024), SECOND / 8, Duration::ZERO).budget(),
            MOST_PATHS * FIRST / 1024
        );
    }
}
