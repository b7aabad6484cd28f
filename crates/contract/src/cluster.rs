//! What the shutdown monitor leaves in a cluster for those who may ask only the API server, or ask while the builder sleeps: the
//! ConfigMap [`status_map`] of a builder, with the keys [`STATUS`] and [`LAST_STOP`].

use serde::{Deserialize, Serialize};

use crate::handshake::{BuilderStatus, LastStop};

/// Environment variable of the monitor: the name of the StatefulSet that it may scale.
pub const STATEFUL_SET_ENV: &str = "TRAMPOLINE_STATEFULSET";
/// Folder of the service account: `token`, `ca.crt` and `namespace`, all of which change while a pod lives.
pub const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Key of [`ClusterStatus`], written while the builder runs and rarely: see its `at`.
pub const STATUS: &str = "status.json";
/// Key of [`ClusterStop`]: a key of its own, so that it stays when the next life of the builder writes its status.
pub const LAST_STOP: &str = "last-stop.json";

/// Name of the ConfigMap beside the StatefulSet (and the budget) `name`.
#[must_use]
pub fn status_map(name: &str) -> String {
    format!("{name}-status")
}

/// A builder as the monitor saw it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Seconds since the epoch when this was written: at each change of [`Self::state`] or of an agent's phase, and otherwise at
    /// most twice a minute, when something changed.
    pub at: u64,
    /// In a word.
    pub state: ClusterState,
    /// The monitor's version.
    pub version: String,
    /// What `user-init status` prints, but for what only that container can see (`pids_limit`).
    pub builder: BuilderStatus,
    /// What the API server refuses the monitor, or that it is away: a builder that cannot stop itself, and what to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// See [`ClusterStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterState {
    /// The daemon is not ready.
    Starting,
    /// Ready, and nothing goes on.
    Idle,
    /// Ready, and something goes on.
    Busy,
    /// Takes no work, and is about to end, or has ended. Whether it has is for the StatefulSet to say.
    Stopping,
}

/// How a life of the builder ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStop {
    /// Who ended it.
    pub by: StoppedBy,
    /// As on the store volume: what a client reads as [`LastStop`] it finds here as well.
    #[serde(flatten)]
    pub stop: LastStop,
}

/// See [`ClusterStop`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoppedBy {
    /// The monitor, for idleness.
    Monitor,
    /// Somebody set the StatefulSet's scale to zero: `trampoline-cli down`, or a person with kubectl.
    Scale,
    /// Somebody ended the pod: deleted or evicted. The StatefulSet makes another.
    Pod,
    /// A signal, and the API server could not be asked for more.
    Signal,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_in_the_cluster_reads_as_one_of_the_volume() {
        let stop = LastStop {
            at: 5,
            reason: "idle for 30m".into(),
            last_activity: 4,
            fs_free_bytes: 2,
            fs_bytes: 3,
        };
        let written =
            serde_json::to_string(&ClusterStop { by: StoppedBy::Monitor, stop: stop.clone() }).unwrap();
        assert_eq!(serde_json::from_str::<LastStop>(&written).unwrap(), stop);
        assert!(written.contains(r#""by":"monitor""#), "{written}");
        assert_eq!(serde_json::from_str::<ClusterStop>(&written).unwrap().stop, stop);
    }
}
