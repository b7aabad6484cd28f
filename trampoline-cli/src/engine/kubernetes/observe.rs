//! A builder as the API server shows it, in one round trip: what it needs is asked for at once.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::cluster::{self, ClusterState, ClusterStatus};
use contract::handshake::{Isolation, LastStop};
use contract::places::Container;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, PersistentVolumeClaim, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, Patch};
use kube::{Api, ResourceExt};

use super::client::Cluster;
use super::{WANTED_AT, claims, grow, merging, pod_of, wait};
use crate::engine::{ContainerState, Observed, Place, PodPhase, Published, label, pod_name};
use crate::error::Result;

/// The monitor writes at most once in a second that the builder is ready.
const NOTE: Duration = Duration::from_secs(2);
/// By then it has said something of a pod whose containers run, if it ever does.
const SILENCE: SignedDuration = SignedDuration::from_secs(30);

/// All objects of a builder that say how it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    /// Its name.
    pub(super) builder: String,
    /// Where all of it is.
    pub(super) namespace: String,
    /// Keeps the pod.
    pub(super) set: Option<StatefulSet>,
    /// The pod itself.
    pub(super) pod: Option<Pod>,
    /// Store and home.
    pub(super) claims: Vec<PersistentVolumeClaim>,
    /// What the monitor leaves there.
    pub(super) status: Option<ConfigMap>,
}

/// Asks for all of it at once.
pub(super) async fn seen(cluster: &Cluster, builder: &str) -> Result<Seen> {
    let name = pod_name(builder);
    let sets = cluster.api::<StatefulSet>();
    let doing = format!("cannot read StatefulSet {name}");
    let set = cluster.call_opt(&doing, || sets.get(&name));
    let (set, rest) = tokio::join!(set, others(cluster, builder));
    Ok(Seen { set: set?, ..rest? })
}

/// For `status`: of the API server alone, with its version.
pub(super) async fn look(cluster: &Cluster, builder: &str) -> Result<Observed> {
    let (first, version) =
        tokio::join!(seen(cluster, builder), cluster.attempt(|| cluster.client.apiserver_version()));
    let mut now = first?;
    let ready = |seen: &Seen| seen.published().is_some_and(|status| status.builder.ready.is_some());
    if now.serves()
        && !ready(&now)
        && !now.is_silent()
        && let Some(map) = now.status.clone()
    {
        let later = |map: &ConfigMap| ready(&Seen { status: Some(map.clone()), ..now.clone() });
        wait::said(cluster, &map, NOTE, later).await;
        now = seen(cluster, builder).await?;
    }
    let mut observed = now.observed();
    if let Some(place) = &mut observed.place {
        place.server = version.ok().map(|version| version.git_version);
    }
    Ok(observed)
}

/// The same, after somebody's wish for the builder is written down: the monitor, which read the StatefulSet before it asked for a
/// stop, is then refused by the API server.
pub(super) async fn wanted(cluster: &Cluster, builder: &str) -> Result<Seen> {
    let name = pod_name(builder);
    let sets = cluster.api::<StatefulSet>();
    let doing = format!("cannot say that StatefulSet {name} is wanted");
    let patch = serde_json::json!({ "metadata": { "annotations": { WANTED_AT: super::now() } } });
    let (params, patch) = (merging(), Patch::Merge(&patch));
    let set = cluster.call_opt(&doing, || sets.patch(&name, &params, &patch));
    // The pod may be older than the StatefulSet that comes back: then the latter says that it is about to go.
    let (set, rest) = tokio::join!(set, others(cluster, builder));
    Ok(Seen { set: set?, ..rest? })
}

async fn others(cluster: &Cluster, builder: &str) -> Result<Seen> {
    let (pod_name, status_name) = (pod_of(builder), cluster::status_map(&pod_name(builder)));
    let pods = cluster.api::<Pod>();
    let maps = cluster.api::<ConfigMap>();
    let listed = cluster.api::<PersistentVolumeClaim>();
    let ours = ListParams::default().labels(&format!("{}={builder}", label::BUILDER));
    let pod_doing = format!("cannot read pod {pod_name}");
    let map_doing = format!("cannot read ConfigMap {status_name}");
    let claim_doing = format!("cannot list the claims of builder {builder}");
    let (pod, status, claims) = tokio::join!(
        cluster.call_opt(&pod_doing, || pods.get(&pod_name)),
        cluster.call_opt(&map_doing, || maps.get(&status_name)),
        cluster.call(&claim_doing, || listed.list(&ours)),
    );
    Ok(Seen {
        builder: builder.to_owned(),
        namespace: cluster.namespace.clone(),
        set: None,
        pod: pod?,
        claims: claims?.items,
        status: status?,
    })
}

/// Every builder: of all namespaces if we may, else of ours.
pub(super) async fn all(cluster: &Cluster) -> Result<Vec<Observed>> {
    let mut builders: BTreeMap<(String, String), Seen> = BTreeMap::new();
    let (sets, pods, claims, maps) = tokio::join!(
        labelled::<StatefulSet>(cluster, "StatefulSets"),
        labelled::<Pod>(cluster, "pods"),
        labelled::<PersistentVolumeClaim>(cluster, "claims"),
        labelled::<ConfigMap>(cluster, "ConfigMaps"),
    );
    fn entry<'a, K: ResourceExt>(
        builders: &'a mut BTreeMap<(String, String), Seen>,
        object: &K,
    ) -> Option<&'a mut Seen> {
        let name = object.labels().get(label::BUILDER)?.clone();
        let seen = builders.entry((object.namespace().unwrap_or_default(), name.clone())).or_default();
        seen.builder = name;
        seen.namespace = object.namespace().unwrap_or_default();
        Some(seen)
    }
    for set in sets? {
        if let Some(seen) =
            entry(&mut builders, &set).filter(|seen| set.name_any() == pod_name(&seen.builder))
        {
            seen.set = Some(set);
        }
    }
    for pod in pods? {
        if let Some(seen) = entry(&mut builders, &pod).filter(|seen| pod.name_any() == pod_of(&seen.builder))
        {
            seen.pod = Some(pod);
        }
    }
    for claim in claims? {
        if let Some(seen) = entry(&mut builders, &claim) {
            seen.claims.push(claim);
        }
    }
    for map in maps? {
        // One without anything else is a leftover.
        let key = (
            map.namespace().unwrap_or_default(),
            map.labels().get(label::BUILDER).cloned().unwrap_or_default(),
        );
        if let Some(seen) = builders.get_mut(&key)
            && map.name_any() == cluster::status_map(&pod_name(&seen.builder))
        {
            seen.status = Some(map);
        }
    }
    Ok(builders.into_values().map(|seen| seen.observed()).collect())
}

async fn labelled<K>(cluster: &Cluster, what: &str) -> Result<Vec<K>>
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let params = ListParams::default().labels(label::BUILDER);
    let doing = format!("cannot list {what}");
    let everywhere = Api::<K>::all(cluster.client.clone());
    match cluster.attempt(|| everywhere.list(&params)).await {
        Ok(list) => Ok(list.items),
        Err(super::client::Failed::Error(kube::Error::Api(status))) if status.code == 403 => {
            let here = cluster.api::<K>();
            Ok(cluster.call(&doing, || here.list(&params)).await?.items)
        }
        Err(error) => Err(super::failure::explain(cluster, &doing, error)),
    }
}

impl Seen {
    /// For the rest of the program.
    pub(super) fn observed(&self) -> Observed {
        let spec = |container: &Container| {
            let template = self.set.as_ref()?.spec.template.spec.as_ref()?;
            template.containers.iter().find(|c| c.name == container.name()).cloned()
        };
        let image = Container::ALL.iter().find_map(|container| {
            let of_pod = self.pod.as_ref().and_then(|pod| pod.spec.as_ref()).and_then(|pod| {
                pod.containers.iter().find(|c| c.name == container.name()).and_then(|c| c.image.clone())
            });
            of_pod.or_else(|| spec(container)?.image)
        });
        let noted = |key: &str| self.set.as_ref().and_then(|set| note(set.annotations(), set.labels(), key));
        Observed {
            builder: self.builder.clone(),
            owner: noted(label::OWNER).or_else(|| {
                self.claims.iter().find_map(|claim| note(claim.annotations(), claim.labels(), label::OWNER))
            }),
            digest: self.digest(),
            image,
            // Nodes may hold different ones under one name.
            image_id: None,
            ssh_port: None,
            containers: self.containers(),
            volumes: claims(&self.builder, &self.claims).into_iter().map(|(volume, _)| volume).collect(),
            told: self.phase(),
            place: Some(Place {
                namespace: self.namespace.clone(),
                node: self.pod.as_ref().and_then(|pod| pod.spec.as_ref()?.node_name.clone()),
                server: None,
            }),
            published: match self.published() {
                None if self.is_silent() => Published::Silent,
                status => Published::Read(status.map(|status| Box::new(status.builder))),
            },
            last_stop: self.last_stop(),
            pending: self.pending(),
            isolation: self.isolation(),
            unseen: false,
            lingers: false,
        }
    }

    /// What is under way, and what the monitor meets with.
    fn pending(&self) -> Vec<String> {
        let grows =
            claims(&self.builder, &self.claims).into_iter().filter_map(|(_, claim)| grow::pending(claim));
        grows.chain(self.published().and_then(|status| status.trouble)).collect()
    }

    /// It serves, and has said nothing for so long that it will not.
    fn is_silent(&self) -> bool {
        let statuses = self.pod.as_ref().and_then(|pod| pod.status.as_ref()?.container_statuses.as_ref());
        let started =
            |status: &ContainerStatus| Some(status.state.as_ref()?.running.as_ref()?.started_at.as_ref()?.0);
        let last = statuses.and_then(|statuses| statuses.iter().filter_map(started).max());
        let long = last.is_some_and(|at| Timestamp::now().duration_since(at) > SILENCE);
        self.serves() && self.published().is_none() && long
    }

    /// Of what runs; of what would run, where nothing does.
    fn digest(&self) -> Option<String> {
        match &self.pod {
            Some(pod) => note(pod.annotations(), pod.labels(), label::DIGEST),
            None => {
                let meta = self.set.as_ref()?.spec.template.metadata.as_ref()?;
                let (annotations, labels) = (meta.annotations.clone(), meta.labels.clone());
                note(&annotations.unwrap_or_default(), &labels.unwrap_or_default(), label::DIGEST)
            }
        }
    }

    /// Of the next pod, which is that of the present one but for a `setup` that waits for a build.
    fn isolation(&self) -> Option<Isolation> {
        let next = self.set.as_ref().and_then(|set| set.spec.template.spec.as_ref());
        let spec = next.or_else(|| self.pod.as_ref()?.spec.as_ref())?;
        let mapped = spec.host_users == Some(false);
        Some(if mapped { Isolation::Userns } else { Isolation::Privileged })
    }

    pub(super) fn replicas(&self) -> i32 {
        self.set.as_ref().map_or(0, |set| set.spec.replicas.unwrap_or(1))
    }

    /// It runs, and its node says so.
    pub(super) fn serves(&self) -> bool {
        self.phase() == Some(PodPhase::Running)
    }

    /// Where it stands; none: there is no pod and nothing that would make one.
    fn phase(&self) -> Option<PodPhase> {
        let going = |pod: &Pod| pod.metadata.deletion_timestamp.is_some();
        match (&self.set, &self.pod) {
            (None, None) => None,
            (None, Some(_)) => Some(PodPhase::Stopping),
            (Some(_), None) if self.replicas() == 0 => Some(PodPhase::Stopped),
            (Some(_), None) => Some(PodPhase::Starting),
            (Some(_), Some(pod)) if going(pod) || self.replicas() == 0 => Some(PodPhase::Stopping),
            (Some(_), Some(_)) => {
                let runs =
                    |agent: Container| self.containers().iter().any(|c| c.running && c.name == agent.name());
                let serves = runs(Container::Daemon) && runs(Container::User);
                Some(if serves && !self.out_of_reach() { PodPhase::Running } else { PodPhase::Starting })
            }
        }
    }

    /// Its containers were last seen running, and yet it is not ready: its node has not been heard of since.
    pub(super) fn out_of_reach(&self) -> bool {
        let Some(status) = self.pod.as_ref().and_then(|pod| pod.status.as_ref()) else { return false };
        let conditions = status.conditions.as_deref().unwrap_or_default();
        let unready =
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "False");
        unready && status.container_statuses.iter().flatten().all(|container| container.ready)
    }

    /// Those of the pod; of a builder without one, those that it would have.
    fn containers(&self) -> Vec<ContainerState> {
        if self.pod.is_none() && self.set.is_none() {
            return Vec::new();
        }
        let statuses = self
            .pod
            .as_ref()
            .and_then(|pod| pod.status.as_ref()?.container_statuses.clone())
            .unwrap_or_default();
        Container::ALL
            .iter()
            .map(|container| {
                let status = statuses.iter().find(|status| status.name == container.name());
                let state = status.and_then(|status| status.state.as_ref());
                let ended = state.and_then(|state| state.terminated.as_ref());
                ContainerState {
                    name: container.name().to_owned(),
                    running: state.is_some_and(|state| state.running.is_some()),
                    created: false,
                    exit_code: ended.map_or(0, |ended| ended.exit_code),
                    pid: None,
                }
            })
            .collect()
    }

    /// What the monitor last said of this pod; nothing of an earlier one.
    pub(super) fn published(&self) -> Option<ClusterStatus> {
        let text = self.status.as_ref()?.data.as_ref()?.get(cluster::STATUS)?;
        let status: ClusterStatus = serde_json::from_str(text).ok()?;
        let started = self.pod.as_ref()?.status.as_ref()?.start_time.as_ref()?.0.as_second();
        let of_this_pod = i64::try_from(status.at).is_ok_and(|at| at >= started);
        (of_this_pod && status.state != ClusterState::Stopping).then_some(status)
    }

    fn last_stop(&self) -> Option<LastStop> {
        let text = self.status.as_ref()?.data.as_ref()?.get(cluster::LAST_STOP)?;
        serde_json::from_str(text).ok()
    }
}

/// An annotation, or the label that podman's builders have instead.
fn note(
    annotations: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    key: &str,
) -> Option<String> {
    annotations.get(key).or_else(|| labels.get(key)).cloned()
}

#[cfg(test)]
#[path = "observe_tests.rs"]
mod tests;
