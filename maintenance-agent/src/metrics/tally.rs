//! What can be counted in what is published.

use contract::handshake::{BuilderStatus, StopAck, StopPhase};

/// Answers to the monitor's last question.
#[derive(Debug, Clone, Default)]
pub(super) struct Acks {
    /// The daemon container's.
    pub(super) daemon: Option<StopAck>,
    /// The user container's.
    pub(super) user: Option<StopAck>,
}

/// Why a builder that was idle for long enough did not stop after all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// A build ran.
    Build,
    /// A session or a job was there.
    User,
    /// Somebody did not answer.
    Silence,
    /// All agreed, and the engine did not, or somebody wanted the builder meanwhile.
    Engine,
}

impl Blocked {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [Self::Build, Self::User, Self::Silence, Self::Engine];

    /// As a label.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Build => "build",
            Self::User => "user",
            Self::Silence => "silence",
            Self::Engine => "engine",
        }
    }
}

/// Sums since this agent began to look.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Collections that have ended.
    pub(super) collections: u64,
    /// Bytes that they have freed.
    pub(super) freed: u64,
    blocked: [u64; Blocked::ALL.len()],
    /// Seconds since the epoch: when the last collection ended that is counted, or else when counting began.
    last_gc: u64,
    /// Generation of a question that has no outcome yet.
    asked: Option<u64>,
}

impl Tally {
    /// Nothing yet, at this time. What is published from before then was counted by whoever was there.
    pub(super) fn begin(now: u64) -> Self {
        Self { last_gc: now, ..Self::default() }
    }

    /// How often that kept the builder.
    pub(super) fn blocked(&self, by: Blocked) -> u64 {
        self.blocked[by as usize]
    }

    /// What is published now.
    pub(super) fn see(&mut self, status: &BuilderStatus, acks: &Acks) {
        let gc = status.store.as_ref().and_then(|store| store.last_gc.as_ref()).filter(|gc| !gc.dry_run);
        if let Some(gc) = gc.filter(|gc| gc.at > self.last_gc) {
            self.collections += 1;
            self.freed += gc.freed_bytes;
            self.last_gc = gc.at;
        }
        let Some(stop) = &status.stop else { return };
        if let Some(asked) = self.asked {
            if stop.generation != asked || stop.phase == StopPhase::Open {
                self.blocked[outcome(asked, acks) as usize] += 1;
            }
        }
        self.asked = (stop.phase == StopPhase::Ask).then_some(stop.generation);
    }
}

fn outcome(asked: u64, acks: &Acks) -> Blocked {
    let work = |ack: &Option<StopAck>| ack.as_ref().filter(|ack| ack.generation == asked).map(|ack| ack.work);
    match (work(&acks.daemon), work(&acks.user)) {
        (Some(1..), _) => Blocked::Build,
        (_, Some(1..)) => Blocked::User,
        (Some(0), Some(0)) => Blocked::Engine,
        _ => Blocked::Silence,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(parts: serde_json::Value) -> BuilderStatus {
        let mut all = json!({ "life": "a", "agents": [] });
        all.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    fn stop(generation: u64, phase: &str) -> BuilderStatus {
        let stop = json!({ "life": "a", "generation": generation, "phase": phase, "reason": "", "last_activity": 0 });
        status(json!({ "stop": stop }))
    }

    fn acks(daemon: Option<(u64, u32)>, user: Option<(u64, u32)>) -> Acks {
        let ack =
            |(generation, work)| StopAck { life: contract::handshake::Life("a".into()), generation, work };
        Acks { daemon: daemon.map(ack), user: user.map(ack) }
    }

    #[test]
    fn each_collection_counts_once_and_earlier_ones_and_dry_runs_do_not() {
        let mut tally = Tally::begin(100);
        let collected = |at: u64, freed: u64, dry_run: bool| {
            let gc = json!({ "at": at, "paths": 1, "freed_bytes": freed, "optimised": false, "dry_run": dry_run, "cause": "asked" });
            let store = json!({ "life": "a", "paths": 0, "nar_bytes": 0, "fs_bytes": 0, "fs_free_bytes": 0,
                                "fs_inodes": 0, "fs_free_inodes": 0, "at": 0, "last_gc": gc });
            status(json!({ "store": store }))
        };
        for (at, freed, dry_run) in
            [(90, 50, false), (101, 10, false), (101, 10, false), (102, 5, true), (103, 7, false)]
        {
            tally.see(&collected(at, freed, dry_run), &Acks::default());
        }
        assert_eq!((tally.collections, tally.freed), (2, 17));
    }

    #[test]
    fn what_kept_the_builder_is_told_apart() {
        let cases = [
            (acks(Some((1, 2)), Some((1, 1))), Blocked::Build),
            (acks(Some((1, 0)), Some((1, 1))), Blocked::User),
            (acks(None, Some((1, 1))), Blocked::User),
            (acks(Some((1, 0)), None), Blocked::Silence),
            (acks(Some((1, 0)), Some((0, 3))), Blocked::Silence),
            (acks(Some((1, 0)), Some((1, 0))), Blocked::Engine),
        ];
        for (answers, by) in cases {
            let mut tally = Tally::default();
            tally.see(&stop(1, "ask"), &Acks::default());
            tally.see(&stop(1, "open"), &answers);
            tally.see(&stop(1, "open"), &answers);
            let counted = Blocked::ALL.map(|by| tally.blocked(by));
            assert_eq!(counted, Blocked::ALL.map(|other| u64::from(other == by)), "{answers:?}");
        }
        let mut tally = Tally::default();
        tally.see(&stop(1, "ask"), &Acks::default());
        tally.see(&stop(1, "final"), &acks(Some((1, 0)), Some((1, 0))));
        assert_eq!(Blocked::ALL.map(|by| tally.blocked(by)), [0; 4], "a stop is none that was blocked");
    }
}
