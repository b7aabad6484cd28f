//! Waiting until something is gone: by a watch, with a deadline.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::places::Container;
use futures_util::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{WatchEvent, WatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::client::Cluster;
use super::target::Target;
use super::{explain, pod_of, scale};
use crate::engine::LOOK;
use crate::error::{CliError, Result};

/// Beyond a pod's own grace: killing, unmounting, and telling the API server.
const BEYOND_GRACE: Duration = Duration::from_secs(120);
/// Events that are no change of the pod itself (an image that is being pulled, a node that goes) are looked at this often.
const MOMENT: Duration = Duration::from_secs(1);
/// The longest watch: then the object is read again, and the node looked at.
const WATCH: Duration = Duration::from_secs(15);

/// Returns when the pod that is there now is gone; another one of its name is not waited for.
/// With `hurry` its grace has been shortened already, which a kubelet that had only just heard of the longer one can miss: it
/// is told once more.
pub(super) async fn pod_gone(cluster: &Cluster, builder: &str, mut hurry: bool) -> Result<()> {
    let (pods, name) = (cluster.api::<Pod>(), pod_of(builder));
    let doing = format!("cannot read pod {name}");
    let Some(first) = cluster.call_opt(&doing, || pods.get(&name)).await? else { return Ok(()) };
    let uid = first.uid();
    let grace = first.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
    let deadline = Instant::now() + Duration::from_secs(grace.try_into().unwrap_or(30)) + BEYOND_GRACE;
    let mut pod = first;
    loop {
        let limit = if hurry { Duration::from_secs(u64::from(scale::NOW) + 3) } else { WATCH };
        if pod.uid() != uid || changed(cluster, &pods, &pod, limit, |event| gone(event, uid.as_deref())).await
        {
            return Ok(());
        }
        match cluster.call_opt(&doing, || pods.get(&name)).await? {
            None => return Ok(()),
            Some(now) => pod = now,
        }
        if std::mem::take(&mut hurry) && pod.uid() == uid {
            scale::shorten(cluster, builder, 1).await?;
        }
        lost_node(cluster, builder, &pod).await?;
        if Instant::now() >= deadline {
            return Err(CliError::new(
                Exit::Deadline,
                format!("pod {name} has not ended {} s after its grace", BEYOND_GRACE.as_secs()),
            )
            .hint(format!("`kubectl -n {} describe pod {name}` shows what holds it", cluster.namespace)));
        }
    }
}

fn gone(event: &WatchEvent<Pod>, uid: Option<&str>) -> bool {
    match event {
        WatchEvent::Deleted(_) => true,
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => pod.uid().as_deref() != uid,
        _ => false,
    }
}

/// The kubelet alone ends a pod: one that does not answer ends none, and only a person may say that its containers are dead.
async fn lost_node(cluster: &Cluster, builder: &str, pod: &Pod) -> Result<()> {
    let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else { return Ok(()) };
    if pod.metadata.deletion_timestamp.is_none() {
        return Ok(());
    }
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    // Nodes are the whole cluster's: who may not read them waits until the deadline.
    let Ok(node) = cluster.attempt(|| nodes.get(&name)).await else { return Ok(()) };
    match explain::not_ready(&node) {
        None => Ok(()),
        Some(_) if Target::new(builder, Container::User).answers(cluster).await => Ok(()),
        Some(why) => Err(explain::lost(cluster, &name, &why, &pod.name_any())),
    }
}

/// Returns when the pod changes after this version of the cluster's objects, or after a moment.
pub(super) async fn something(cluster: &Cluster, builder: &str, version: Option<&str>) -> Result<()> {
    let (pods, name) = (cluster.api::<Pod>(), pod_of(builder));
    let Some(version) = version else {
        tokio::time::sleep(LOOK).await;
        return Ok(());
    };
    let watch = watched(&pods, &name, version, MOMENT, |_| true);
    // A broken watch is a moment, too: whoever waits looks for himself.
    if let Ok(Err(error)) = tokio::time::timeout(MOMENT, watch).await {
        cluster.ui.detail(format!("the watch broke: {error}"));
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Returns when a map says what is waited for, or after `limit`.
pub(super) async fn said(
    cluster: &Cluster,
    map: &ConfigMap,
    limit: Duration,
    wanted: impl Fn(&ConfigMap) -> bool,
) {
    let says = |event: &WatchEvent<ConfigMap>| match event {
        WatchEvent::Added(map) | WatchEvent::Modified(map) => wanted(map),
        _ => true,
    };
    changed(cluster, &cluster.api::<ConfigMap>(), map, limit, says).await;
}

/// Returns when an object of a kind is gone, or fails after `limit`.
pub(super) async fn gone_within<K>(
    cluster: &Cluster,
    api: &Api<K>,
    name: &str,
    limit: Duration,
) -> Result<bool>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let deadline = Instant::now() + limit;
    let doing = format!("cannot read {name}");
    loop {
        let Some(object) = cluster.call_opt(&doing, || api.get(name)).await? else { return Ok(true) };
        if Instant::now() >= deadline {
            return Ok(false);
        }
        changed(cluster, api, &object, WATCH, |event| matches!(event, WatchEvent::Deleted(_))).await;
    }
}

/// Watches one object from this state of it on; true as soon as an event says what is waited for. False, and no error, after a
/// while or when the watch breaks: whoever calls reads the object again.
async fn changed<K>(
    cluster: &Cluster,
    api: &Api<K>,
    object: &K,
    limit: Duration,
    wanted: impl Fn(&WatchEvent<K>) -> bool,
) -> bool
where
    K: Resource + Clone + Debug + DeserializeOwned,
    K::DynamicType: Default,
{
    let (name, version) = (object.name_any(), object.resource_version().unwrap_or_default());
    let watch = watched(api, &name, &version, limit, wanted);
    let since = Instant::now();
    match tokio::time::timeout(limit + Duration::from_secs(5), watch).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => {
            cluster.ui.detail(format!("the watch broke: {error}"));
            // A server that refuses watches must not be asked as fast as it can answer.
            tokio::time::sleep(Duration::from_secs(1).saturating_sub(since.elapsed())).await;
            false
        }
        Err(_) => false,
    }
}

/// One watch, for `limit` at most.
async fn watched<K>(
    api: &Api<K>,
    name: &str,
    version: &str,
    limit: Duration,
    wanted: impl Fn(&WatchEvent<K>) -> bool,
) -> kube::Result<bool>
where
    K: Clone + Debug + DeserializeOwned,
{
    let params =
        WatchParams::default().fields(&format!("metadata.name={name}")).timeout(limit.as_secs() as u32);
    let mut events = std::pin::pin!(api.watch(&params, version).await?);
    while let Some(event) = events.try_next().await? {
        if matches!(event, WatchEvent::Error(_)) {
            return Ok(false);
        }
        if wanted(&event) {
            return Ok(true);
        }
    }
    Ok(false)
}
