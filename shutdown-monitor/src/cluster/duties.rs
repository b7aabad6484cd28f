//! What is to be written to the cluster, and when: pure, like the judge.

use std::time::{Duration, Instant};

use agent::wait::growing;
use contract::cluster::{ClusterStatus, ClusterStop};
use contract::handshake::{AgentStatus, StopPhase};

/// Builds follow each other closely; the budget is not moved for every gap.
pub const GAP: Duration = Duration::from_secs(10);
/// Between two notes that differ in a word only.
pub const RARELY: Duration = Duration::from_secs(30);
/// Between two that differ in what one looks for.
pub const SOON: Duration = Duration::from_secs(1);
/// After a failure, doubled each time up to [`RETRY_MAX`].
pub const RETRY: Duration = Duration::from_secs(5);
/// See [`RETRY`].
pub const RETRY_MAX: Duration = Duration::from_secs(300);

/// One thing to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Duty {
    /// Keep evictions away, or let them in.
    Budget {
        /// Away.
        closed: bool,
    },
    /// How the builder is.
    Status(Box<ClusterStatus>),
    /// Why it stops.
    Stop(Box<ClusterStop>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct Duties {
    budget: Budget,
    stop: Option<Box<ClusterStop>>,
    wanted: Option<Box<ClusterStatus>>,
    written: Option<(Box<ClusterStatus>, Instant)>,
    failures: u32,
    hold: Option<Instant>,
}

#[derive(Debug, Default)]
struct Budget {
    /// As the cluster has it; unknown at first, since the monitor before us may have ended in the middle of a build.
    is: Option<bool>,
    building: bool,
    /// Since when it has to be closed.
    since: Option<Instant>,
    /// When the last build ended.
    ended: Option<Instant>,
    /// Evictions are kept away for at most so long without a pause, whatever runs: a build that never ends must not be
    /// what keeps a node.
    most: Duration,
}

impl Budget {
    fn seen(&mut self, building: bool, now: Instant) {
        if building {
            self.since = self.since.or(Some(now));
            self.ended = None;
        } else if self.building {
            self.ended = Some(now);
        }
        self.building = building;
        if self.ended.is_some_and(|at| now >= at + GAP) {
            (self.since, self.ended) = (None, None);
        }
    }

    fn closed(&self, now: Instant) -> bool {
        self.since.is_some_and(|at| now < at + self.most)
    }

    /// When [`Self::closed`] changes by itself.
    fn next(&self, now: Instant) -> Option<Instant> {
        let most = self.since.map(|at| at + self.most).filter(|at| *at > now);
        [most, self.ended.map(|at| at + GAP)].into_iter().flatten().min()
    }
}

impl Duties {
    /// What there is to tell now. `building`: `None` while it is not known. For `most` at most it keeps evictions away.
    pub fn seen(&mut self, building: Option<bool>, most: Duration, status: ClusterStatus, now: Instant) {
        self.budget.most = most;
        self.budget.seen(building.unwrap_or(self.budget.building), now);
        self.wanted = Some(Box::new(status));
    }

    /// The builder stops.
    pub fn stopped(&mut self, stop: ClusterStop) {
        self.stop = Some(Box::new(stop));
    }

    /// It does not stop after all.
    pub fn goes_on(&mut self) {
        self.stop = None;
    }

    /// The stop that has not been written yet.
    #[must_use]
    pub fn unwritten_stop(&self) -> Option<&ClusterStop> {
        self.stop.as_deref()
    }

    /// What to write now, the most urgent first.
    #[must_use]
    pub fn next(&self, now: Instant) -> Option<Duty> {
        if self.hold.is_some_and(|at| now < at) {
            return None;
        }
        if let Some(stop) = &self.stop {
            return Some(Duty::Stop(stop.clone()));
        }
        let closed = self.budget.closed(now);
        if self.wanted.is_some() && self.budget.is != Some(closed) {
            return Some(Duty::Budget { closed });
        }
        let at = self.status_at(now)?;
        self.wanted.clone().filter(|_| now >= at).map(Duty::Status)
    }

    /// When [`Self::next`] may have something by itself.
    #[must_use]
    pub fn again(&self, now: Instant) -> Option<Instant> {
        let at =
            [self.budget.next(now), self.status_at(now).filter(|at| *at > now)].into_iter().flatten().min();
        match self.hold.filter(|at| *at > now) {
            // Whatever is to be done, not before.
            Some(hold) => Some(hold),
            None => at,
        }
    }

    /// How a duty ended.
    pub fn done(&mut self, duty: &Duty, good: bool, now: Instant) {
        if !good {
            self.hold = Some(now + growing(RETRY, self.failures, RETRY_MAX));
            self.failures = self.failures.saturating_add(1);
            return;
        }
        (self.failures, self.hold) = (0, None);
        match duty {
            Duty::Budget { closed } => self.budget.is = Some(*closed),
            Duty::Status(status) => self.written = Some((status.clone(), now)),
            Duty::Stop(stop) => {
                if self.stop.as_ref() == Some(stop) {
                    self.stop = None;
                }
            }
        }
    }

    /// Whether evictions are kept away, as far as we know.
    #[must_use]
    pub fn budget_closed(&self) -> bool {
        self.budget.is != Some(false)
    }

    /// When the status is to be written: the first at once; `None` where there is nothing new.
    fn status_at(&self, now: Instant) -> Option<Instant> {
        let wanted = self.wanted.as_ref()?;
        let Some((written, at)) = &self.written else { return Some(now) };
        if headline(wanted) != headline(written) {
            return Some(*at + SOON);
        }
        (undated(wanted) != undated(written)).then_some(*at + RARELY)
    }
}

/// What one looks for.
fn headline(status: &ClusterStatus) -> impl PartialEq + use<> {
    let agents = status.builder.agents.iter();
    // With the configuration that each runs with: who has just applied one looks.
    let of = |a: &AgentStatus| (a.agent.clone(), a.phase, a.config.clone(), a.config_note.clone());
    let agents: Vec<_> = agents.map(of).collect();
    let stop = status.builder.stop.as_ref().map_or(StopPhase::Open, |s| s.phase);
    let keeps = status.builder.idle.as_ref().map(|idle| idle.keeps.clone());
    let damage = status.builder.damage.as_ref().map(|damage| damage.paths.clone());
    // Not by how much: that changes with every build.
    let store = status.builder.store.as_ref();
    let store = store.map(|store| (store.short.is_some(), store.last_gc.as_ref().map(|gc| gc.at)));
    let killed = status.builder.memory.as_ref().map(|memory| memory.last_kill);
    (status.state, agents, stop, keeps, damage, store, killed, status.trouble.clone())
}

/// Without the times at which something was written down, which say nothing new.
fn undated(status: &ClusterStatus) -> ClusterStatus {
    let mut status = status.clone();
    status.at = 0;
    status.builder.agents.iter_mut().for_each(|agent| agent.at = 0);
    status
}

#[cfg(test)]
#[path = "duties_tests.rs"]
mod tests;
