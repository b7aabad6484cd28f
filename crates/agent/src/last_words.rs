//! How an agent that must fail ends. podman restarts a failed container at once and without end: 122 times in 12 seconds
//! were seen. So the agent waits first, longer each time, and says why in its status file meanwhile.

use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::handshake::{Life, file};
use contract::places::Container;
use serde::{Deserialize, Serialize};

use crate::files::{self, Living};
use crate::paths::Paths;
use crate::published;
use crate::signals::{Signal, Signals};
use crate::status::Reporter;
use crate::wait::{Waiter, Wake, growing};

/// The longest pause; Kubernetes' own back-off ends at five minutes and comes on top.
const LONGEST: Duration = Duration::from_secs(60);

/// `failures.json`.
#[derive(Debug, Serialize, Deserialize)]
struct Failures {
    life: Life,
    in_a_row: u32,
}

impl Living for Failures {
    fn life(&self) -> &Life {
        &self.life
    }
}

/// Pause before the exit of the `n`th failure in a row (from 1): 1 s, 2 s, 4 s ... 60 s.
#[must_use]
pub fn pause(n: u32) -> Duration {
    growing(Duration::from_secs(1), n.saturating_sub(1), LONGEST)
}

/// The agent serves again: the next failure is a first one.
pub fn recovered(paths: &Paths, container: Container) {
    let path = paths.run_dir(container).join(file::FAILURES);
    if let Err(error) = files::withdraw(&path) {
        tracing::debug!(error = %error, "failure count not removed");
    }
}

/// Publishes why, waits, and returns the code to end with. A signal or a change of the configuration ends the pause; on a
/// signal the code is 0, so that a stop asked for is not taken for a crash and restarted.
pub fn fail(
    paths: &Paths,
    life: &Life,
    container: Container,
    reporter: &mut Reporter,
    signals: &Signals,
    (exit, message): (Exit, String),
) -> Exit {
    let dir = paths.run_dir(container);
    let before = published::read::<Failures>(paths, life, container, file::FAILURES);
    let in_a_row = before.map_or(0, |f| f.in_a_row).saturating_add(1);
    if let Err(error) = files::write_json(&dir, file::FAILURES, &Failures { life: life.clone(), in_a_row }) {
        tracing::debug!(error = %error, "failure count not written");
    }
    let pause = pause(in_a_row);
    tracing::error!(exit = exit.code(), pause = pause.as_secs(), "{message}");
    reporter.failed(exit, message);
    if wait_for_a_reason(paths, signals, Instant::now() + pause) { Exit::Ok } else { exit }
}

/// True if a signal asked to leave.
fn wait_for_a_reason(paths: &Paths, signals: &Signals, deadline: Instant) -> bool {
    let Ok(mut waiter) = Waiter::new(signals) else { return false };
    if let Some(dir) = paths.config.parent() {
        // Without a mounted configuration only the deadline and signals count.
        let _ = waiter.watch_dir(dir);
    }
    loop {
        match waiter.wait(Some(deadline)) {
            Ok(Wake::Signals(seen)) if seen.contains(&Signal::Terminate) => return true,
            Ok(Wake::Signals(_)) => {}
            Ok(Wake::Changed | Wake::Fd(_) | Wake::Deadline) | Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_minute() {
        let seconds: Vec<_> = (1..=9).map(|n| pause(n).as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    }
}
