//! Removing what belongs to a builder, found by its label: also what an interrupted `setup` left.

use std::time::Duration;

use contract::exit::Exit;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, PropagationPolicy};

use super::client::Cluster;
use super::permissions::{KINDS, Kind};
use super::{pod_of, wait};
use crate::engine::{Belonging, Volume, label};
use crate::error::{CliError, Result};

/// A claim goes when no pod uses it any more, and that has been waited for.
const CLAIM: Duration = Duration::from_secs(120);

/// The pod, with the grace that it has: its containers end their work or, if they have none, leave at once.
pub(super) async fn pod(cluster: &Cluster, builder: &str) -> Result<()> {
    let (pods, name) = (cluster.api::<Pod>(), pod_of(builder));
    let doing = format!("cannot delete pod {name}");
    let params = DeleteParams::default();
    match cluster.call_opt(&doing, || pods.delete(&name, &params)).await? {
        None => Ok(()),
        Some(_) => wait::pod_gone(cluster, builder, false).await,
    }
}

/// All objects with the builder's label.
async fn found(cluster: &Cluster, builder: &str) -> Result<Vec<(Kind, DynamicObject)>> {
    let params = ListParams::default().labels(&format!("{}={builder}", label::BUILDER));
    let lists = KINDS.map(|kind| {
        let api = cluster.api_of(kind);
        let params = &params;
        async move {
            let doing = format!("cannot list {}", kind.plural);
            let list = cluster.call(&doing, || api.list(params)).await?;
            Ok::<_, CliError>(list.items.into_iter().map(move |item| (kind, item)).collect::<Vec<_>>())
        }
    });
    let mut all = Vec::new();
    for list in futures_util::future::join_all(lists).await {
        all.extend(list?);
    }
    Ok(all)
}

/// A line each, claims with what they hold.
pub(super) async fn belongings(cluster: &Cluster, builder: &str) -> Result<Vec<Belonging>> {
    let place = &cluster.namespace;
    let lines = found(cluster, builder).await?.into_iter().map(|(kind, object)| {
        let name = object.name_any();
        let holds = if is_claim(kind) { size(&object) } else { String::new() };
        let data = is_claim(kind) && name != Volume::Build.of(builder);
        Belonging { what: format!("{} {place}/{name}{holds}", kind.kind), data }
    });
    Ok(lines.collect())
}

fn is_claim(kind: Kind) -> bool {
    kind.kind == "PersistentVolumeClaim"
}

fn size(claim: &DynamicObject) -> String {
    let text = |pointer: &str| claim.data.pointer(pointer).and_then(|value| value.as_str());
    match (text("/status/capacity/storage"), text("/spec/storageClassName")) {
        (Some(size), Some(class)) => format!(" ({size}, class {class})"),
        (Some(size), None) => format!(" ({size})"),
        _ => " (never bound to a volume)".to_owned(),
    }
}

/// The pod is waited for: nothing of ours runs afterwards.
pub(super) async fn all_but_claims(cluster: &Cluster, builder: &str) -> Result<()> {
    for (kind, object) in found(cluster, builder).await?.into_iter().filter(|(kind, _)| !is_claim(*kind)) {
        let name = object.name_any();
        cluster.ui.detail(format!("deleting {} {name}", kind.kind));
        let api = cluster.api_of(kind);
        let params = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let doing = format!("cannot delete {} {name}", kind.kind);
        cluster.call_opt(&doing, || api.delete(&name, &params)).await?;
    }
    pod(cluster, builder).await
}

/// Absent ones are fine; those that are there and the builder's are gone afterwards.
pub(super) async fn claims(cluster: &Cluster, builder: &str, volumes: &[Volume]) -> Result<()> {
    let api = cluster.api::<PersistentVolumeClaim>();
    let names: Vec<String> = volumes
        .iter()
        .filter(|volume| Volume::CLAIMS.contains(volume))
        .map(|volume| volume.of(builder))
        .collect();
    let params = DeleteParams::default();
    let mut deleted = Vec::new();
    for name in &names {
        let doing = format!("cannot delete claim {name}");
        let claim = cluster.call_opt(&format!("cannot read claim {name}"), || api.get(name)).await?;
        // Of the same name, but not ours.
        if claim.is_none_or(|claim| claim.labels().get(label::BUILDER).is_none_or(|owner| owner != builder)) {
            continue;
        }
        cluster.call_opt(&doing, || api.delete(name, &params)).await?;
        deleted.push(name);
    }
    for name in deleted {
        if !wait::gone_within(cluster, &api, name, CLAIM).await? {
            return Err(CliError::new(Exit::Deadline, format!("claim {name} is deleted, but still there after {} s", CLAIM.as_secs()))
                .hint(format!(
                    "some pod still uses it: `kubectl -n {} describe pvc {name}` names it; the claim goes when that pod does",
                    cluster.namespace
                )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::kubernetes::fake;

    #[tokio::test]
    async fn a_claim_that_is_somebody_elses_is_neither_deleted_nor_waited_for() {
        let (cluster, asked) = fake::cluster(|request| {
            Some(if request.ends_with("/persistentvolumeclaims/trampoline-a-store") {
                (200, r#"{"metadata":{"name":"trampoline-a-store"}}"#.to_owned())
            } else {
                (404, r#"{"status":"Failure","message":"not found","code":404}"#.to_owned())
            })
        })
        .await;
        let deleting = claims(&cluster, "a", &Volume::ALL);
        let done = tokio::time::timeout(Duration::from_secs(10), deleting).await;
        done.expect("nothing is waited for").expect("nothing is refused");
        let asked = asked.lock().expect("nobody failed");
        assert_eq!(asked.len(), Volume::CLAIMS.len(), "{asked:?}");
        assert!(asked.iter().all(|request| request.starts_with("GET ")), "{asked:?}");
    }
}
