//! Who leads a job. A `serve` writes the end of each of its jobs before its own; where it was killed nobody does, and a job
//! without an end is one that runs only as long as its leader does.

use agent::paths::Paths;
use agent::{life, proc};
use contract::handshake::Life;
use serde::{Deserialize, Serialize};

/// One run of `serve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leader {
    life: Life,
    pid: i32,
    start_time: u64,
}

impl Leader {
    /// This process.
    pub(super) fn me(paths: &Paths) -> Option<Self> {
        let pid = i32::try_from(std::process::id()).ok()?;
        let start_time = proc::start_time(&paths.proc, pid).ok().flatten()?;
        Some(Self { life: life::current(paths).ok()?, pid, start_time })
    }

    /// Whether it is still there.
    pub(super) fn lives(&self, paths: &Paths) -> bool {
        let same_life = life::current(paths).map_or(true, |life| life == self.life);
        same_life && proc::alive_since(&paths.proc, self.pid).map_or(true, |at| at == Some(self.start_time))
    }
}
