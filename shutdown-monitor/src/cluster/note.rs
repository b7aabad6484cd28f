//! What is written down, made from what the pod publishes. Pure but for the date.

use contract::cluster::{ClusterState, ClusterStatus, ClusterStop, StoppedBy};
use contract::handshake::{BuilderStatus, LastStop, StopPhase, StoreStatus, UserActivity};

use crate::engine::Scale;

/// The builder as it is.
pub(super) fn status(builder: BuilderStatus, trouble: Option<&str>) -> ClusterStatus {
    ClusterStatus {
        at: agent::unix_now(),
        state: state(&builder),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        builder,
        trouble: trouble.map(str::to_owned),
    }
}

/// The builder as we leave it.
pub(super) fn stopping(builder: BuilderStatus, trouble: Option<&str>) -> ClusterStatus {
    ClusterStatus { state: ClusterState::Stopping, ..status(builder, trouble) }
}

fn state(builder: &BuilderStatus) -> ClusterState {
    let asked = builder.stop.as_ref().is_some_and(|stop| stop.phase == StopPhase::Final);
    if asked || builder.drain.is_some() {
        return ClusterState::Stopping;
    }
    if builder.ready.is_none() {
        return ClusterState::Starting;
    }
    let doing = |user: &UserActivity| {
        user.detached.is_some() || user.sessions.iter().any(|session| session.doing.is_some())
    };
    let sessions = builder.user.as_ref().is_some_and(doing);
    if sessions || building(builder) == Some(true) { ClusterState::Busy } else { ClusterState::Idle }
}

/// A build runs, or a job that is about to build; `None` where that is not known.
pub(super) fn building(builder: &BuilderStatus) -> Option<bool> {
    let builds = builder.daemon.as_ref().map(|daemon| daemon.builds > 0);
    let jobs = builder.user.as_ref().map(|user| !user.jobs.is_empty());
    match (builds, jobs) {
        (None, None) => None,
        (builds, jobs) => Some(builds == Some(true) || jobs == Some(true)),
    }
}

pub(super) fn stop(by: StoppedBy, reason: String, last: u64, store: Option<&StoreStatus>) -> ClusterStop {
    let stop = LastStop {
        at: agent::unix_now(),
        reason,
        last_activity: last,
        fs_free_bytes: store.map_or(0, |s| s.fs_free_bytes),
        fs_bytes: store.map_or(0, |s| s.fs_bytes),
    };
    ClusterStop { by, stop }
}

/// A signal that nobody announced: the scale tells whom it came from.
pub(super) fn foreign(scale: Option<Scale>) -> (StoppedBy, &'static str) {
    match scale {
        Some(Scale { replicas: 0, .. }) => {
            (StoppedBy::Scale, "scaled to zero by a client (down, or kubectl scale)")
        }
        Some(_) => (StoppedBy::Pod, "its pod was deleted or evicted"),
        None => (StoppedBy::Signal, "asked to leave by a signal"),
    }
}
