//! Starting and stopping: the StatefulSet's count of pods.

use contract::places::{Container, DAEMON_INIT};
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch};

use super::client::Cluster;
use super::target::Target;
use super::{WANTED_AT, exec, merging, pod_of};
use crate::engine::pod_name;
use crate::error::{CliError, Result};

/// Seconds that containers are given once nobody wants to wait for their work.
pub(super) const NOW: u32 = 5;
/// Asks all agents; asked twice, they wait for no work.
const LEAVE: [&str; 2] = [DAEMON_INIT, "leave"];

/// Wish and count in one change: a stop that was decided before it is refused, one that is decided after it sees it.
pub(super) async fn start(cluster: &Cluster, builder: &str) -> Result<()> {
    let patch = serde_json::json!({
        "metadata": { "annotations": { WANTED_AT: super::now() } },
        "spec": { "replicas": 1 },
    });
    scale(cluster, builder, "cannot start", &patch).await
}

/// Asked again, work is no longer waited for. Never at once: a node that does not answer would go on using the volume.
pub(super) async fn stop(cluster: &Cluster, builder: &str, again: bool) -> Result<()> {
    if !again {
        return scale(cluster, builder, "cannot stop", &serde_json::json!({ "spec": { "replicas": 0 } }))
            .await;
    }
    shorten(cluster, builder, NOW).await
}

/// Leaves the pod's containers this many seconds.
pub(super) async fn shorten(cluster: &Cluster, builder: &str, grace: u32) -> Result<()> {
    let (pods, name) = (cluster.api::<Pod>(), pod_of(builder));
    let params = DeleteParams { grace_period_seconds: Some(grace), ..DeleteParams::default() };
    let doing = format!("cannot delete pod {name}");
    if cluster.call_opt(&doing, || pods.delete(&name, &params)).await?.is_some() {
        // A kubelet that has begun to end a pod gives it the time that it had then, and asks once.
        let daemon = Target::new(builder, Container::Daemon);
        match exec::exec(cluster, &daemon, &LEAVE, &[]).await {
            Ok(output) if output.code == 0 => {}
            Ok(output) => cluster.ui.detail(String::from_utf8_lossy(&output.stderr).trim_end()),
            Err(error) => cluster.ui.detail(format!("the agents were not asked again: {error}")),
        }
    }
    Ok(())
}

async fn scale(cluster: &Cluster, builder: &str, doing: &str, patch: &serde_json::Value) -> Result<()> {
    let (sets, name) = (cluster.api::<StatefulSet>(), pod_name(builder));
    let (params, patch) = (merging(), Patch::Merge(patch));
    let changed = cluster
        .call_opt(&format!("{doing} StatefulSet {name}"), || sets.patch(&name, &params, &patch))
        .await?;
    changed.map(drop).ok_or_else(|| {
        CliError::engine(format!("StatefulSet {name} is gone from namespace {}", cluster.namespace))
            .hint("`trampoline-cli setup` makes it again; the store is in its claim")
    })
}
