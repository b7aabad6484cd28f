//! A pod without a node, and claims without a volume.

use contract::exit::Exit;
use k8s_openapi::api::core::v1::{Event, Node, PersistentVolumeClaim, Pod, PodCondition, Taint, Toleration};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;

use super::judge::of;
use super::{Facts, Verdict};
use crate::engine::kubernetes::observe::Seen;

/// A scheduler that has no place now may have one in a moment: a pod that ends, a volume that is being made.
const PATIENCE: SignedDuration = SignedDuration::from_secs(7);

/// A disk that a cloud makes takes longer than that.
const PROVISIONING: SignedDuration = SignedDuration::from_secs(60);

/// What the scheduler says, by the words that it says it with; each with what to do.
const CAUSES: [(&str, &str); 9] = [
    (
        "Insufficient memory",
        "free memory on the nodes, add a node, or lower `memory-request` under [builder.daemon] and [builder.user]",
    ),
    (
        "Insufficient cpu",
        "free CPUs on the nodes, add a node, or lower `cpu-request` under [builder.daemon] and [builder.user]",
    ),
    ("Insufficient ephemeral-storage", "free disk on the nodes, or add a node"),
    (
        "Insufficient ",
        "no node offers that resource: `kvm-resource` and `pod-patch` ask for it, device plugins of nodes offer it",
    ),
    (TAINT, "let the builder go there with `tolerations` under [kubernetes], or have the taint removed"),
    (
        "node affinity/selector",
        "`node-selector` and `affinity` under [kubernetes], or `system` under [builder], ask for a node that is not there: `kubectl get nodes --show-labels`",
    ),
    (
        "volume node affinity",
        "its volume is on a node that is gone or full; a new store needs `trampoline-cli clean --delete-store`",
    ),
    ("unschedulable", "the nodes are cordoned: `kubectl uncordon NODE`"),
    ("free ports", "another pod has the port: change `pod-patch`"),
];

pub(super) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound")
}

/// How the scheduler speaks of them.
const TAINT: &str = "untolerated taint";

/// What the scheduler last said of a pod that it has no place for.
fn refused(pod: &Pod) -> Option<&PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == "PodScheduled" && condition.status == "False")
}

/// Whether it counts nodes whose taints the pod does not tolerate.
pub(super) fn names_taints(pod: &Pod) -> bool {
    refused(pod).and_then(|refused| refused.message.as_ref()).is_some_and(|said| said.contains(TAINT))
}

/// None: it has a node.
pub(super) fn judge(seen: &Seen, pod: &Pod, facts: &Facts) -> Option<Verdict> {
    if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
        return None;
    }
    let Some(refused) = refused(pod) else {
        return Some(Verdict::Waiting("the cluster is choosing a node".to_owned()));
    };
    let said = refused.message.clone().unwrap_or_default();
    if refused.reason.as_deref() == Some("SchedulingGated") {
        return Some(Verdict::Waiting("a scheduling gate holds its pod".to_owned()));
    }
    let waited = refused
        .last_transition_time
        .as_ref()
        .map_or(SignedDuration::ZERO, |at| facts.now.duration_since(at.0));
    let uid = pod.uid().unwrap_or_default();
    let grows = |event: &Event| matches!(event.reason.as_deref(), Some("TriggeredScaleUp" | "Nominated"));
    if of(facts, &uid).any(grows) {
        return Some(Verdict::Waiting(format!("the cluster is adding a node ({})", short(&said))));
    }
    let unbound = said.contains("unbound immediate").then(|| unbound(seen)).flatten();
    let failed = claim_trouble(seen, facts);
    let unbound = unbound.or_else(|| unseen(seen, &said));
    let patience = if failed.is_none() && unbound.is_some() { PROVISIONING } else { PATIENCE };
    let (message, hint) =
        failed.or(unbound).unwrap_or_else(|| cause(&seen.builder, pod, &said, &facts.nodes));
    if waited < patience {
        return Some(Verdict::Waiting(message));
    }
    Some(Verdict::Fatal { exit: Exit::Engine, message, hint })
}

/// Without what it tried about preemption, which helps nobody who waits.
fn short(said: &str) -> String {
    let end =
        [" preemption:", " no new claims to deallocate"].iter().filter_map(|words| said.find(words)).min();
    said[..end.unwrap_or(said.len())].trim_end_matches([',', '.', ' ']).to_owned()
}

fn cause(builder: &str, pod: &Pod, said: &str, nodes: &[Node]) -> (String, String) {
    let mut said = short(said);
    let taints = taints(pod, nodes);
    if !taints.is_empty() && said.contains(TAINT) {
        said = format!("{said}: {}", taints.join(", "));
    }
    let asks =
        match ["memory", "cpu"].iter().find(|resource| said.contains(&format!("Insufficient {resource}"))) {
            Some(resource) => format!("; it reserves {resource} {}", requests(pod, resource)),
            None => String::new(),
        };
    // The general form of a resource comes after its own.
    let known = CAUSES.iter().find(|(words, _)| said.contains(words));
    let hint = known.map_or("`kubectl describe pod` shows what the scheduler tried", |(_, hint)| *hint);
    (format!("no node can take builder {builder}: {said}{asks}"), hint.to_owned())
}

/// Whether one of these lets a pod go where this taint is.
pub(in crate::engine::kubernetes) fn tolerated(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| {
        let exists = toleration.operator.as_deref() == Some("Exists");
        let key = toleration.key.as_deref().is_none_or(|key| key == taint.key)
            && (toleration.key.is_some() || exists);
        let value = exists
            || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default();
        key && value && toleration.effect.as_deref().is_none_or(|effect| effect == taint.effect)
    })
}

/// `node: key=value:Effect` of each that the pod does not tolerate.
fn taints(pod: &Pod, nodes: &[Node]) -> Vec<String> {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.clone()).unwrap_or_default();
    let mut found = Vec::new();
    for node in nodes {
        let all = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
        for taint in
            all.iter().filter(|taint| taint.effect != "PreferNoSchedule" && !tolerated(&tolerations, taint))
        {
            let value = taint.value.as_ref().map(|value| format!("={value}")).unwrap_or_default();
            found.push(format!("{} has {}{value}:{}", node.name_any(), taint.key, taint.effect));
        }
    }
    found
}

fn requests(pod: &Pod, resource: &str) -> String {
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
    containers
        .iter()
        .filter_map(|container| container.resources.as_ref()?.requests.as_ref()?.get(resource))
        .map(|quantity| quantity.0.clone())
        .collect::<Vec<_>>()
        .join(" + ")
}

fn class(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.storage_class_name.as_deref()
}

fn class_of(claim: &PersistentVolumeClaim) -> String {
    class(claim).map_or_else(|| "without a storage class".to_owned(), |class| format!("of class {class}"))
}

/// A claim whose volume is being made, or that nobody makes one for.
fn unbound(seen: &Seen) -> Option<(String, String)> {
    let claim = seen.claims.iter().find(|claim| !is_bound(claim))?;
    let name = claim.name_any();
    Some((
        format!("claim {name} {} has no volume yet", class_of(claim)),
        format!(
            "the class's provisioner has made none so far: `kubectl -n {} describe pvc {name}` shows what it says; \
             `storage-class` under [kubernetes] names another class for claims that are made anew",
            seen.namespace
        ),
    ))
}

/// A claim that is there, or a volume that one is bound to, which the scheduler does not know: it learns of each kind by a watch of its
/// own, which after an absence of the API server comes back up to half a minute after everything else.
fn unseen(seen: &Seen, said: &str) -> Option<(String, String)> {
    let unheard = |what: &str| format!("the cluster's scheduler has not heard of {what} yet");
    let keeps = "ask the cluster's administrator what keeps the scheduler from the API server";
    if let Some(claim) = unknown(said, "persistentvolumeclaim") {
        let there = seen.claims.iter().any(|known| known.name_any() == claim);
        return there.then(|| (unheard(&format!("claim {claim}")), format!("the claim is there: {keeps}")));
    }
    let volume = unknown(said, "persistentvolume")?;
    let hint = format!(
        "`kubectl get pv {volume}` shows whether it is there; if so, {keeps}, and if not, the store of builder {} is gone: \
         `trampoline-cli clean --delete-store`",
        seen.builder
    );
    Some((unheard(&format!("volume {volume}")), hint))
}

/// The name of what is said not to be found.
fn unknown<'a>(said: &'a str, kind: &str) -> Option<&'a str> {
    let (name, rest) = said.split_once(&format!("{kind} \""))?.1.split_once('"')?;
    rest.starts_with(" not found").then_some(name)
}

/// Why a claim has no volume. One that waits for its first pod is fine.
fn claim_trouble(seen: &Seen, facts: &Facts) -> Option<(String, String)> {
    for claim in seen.claims.iter().filter(|claim| !is_bound(claim)) {
        let (name, uid) = (claim.name_any(), claim.uid().unwrap_or_default());
        if claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Lost") {
            return Some((
                format!("claim {name} has lost its volume"),
                "the store is gone with the volume: `trampoline-cli clean --delete-store`, then `trampoline-cli setup`".to_owned(),
            ));
        }
        let failed = of(facts, &uid)
            .rfind(|event| matches!(event.reason.as_deref(), Some("ProvisioningFailed" | "FailedBinding")));
        let Some(said) = failed.and_then(|event| event.message.clone()) else { continue };
        let hint = if class(claim).is_none() {
            "the cluster has no default storage class: name one with `storage-class` under [kubernetes] (`kubectl get storageclass`)"
        } else if said.contains("not found") {
            "`kubectl get storageclass` lists those that exist; `storage-class` under [kubernetes] names one for claims that \
             are made anew (`trampoline-cli clean --delete-store` removes those that are there)"
        } else {
            "the cluster's storage says why it makes no volume: its administrator can help"
        };
        return Some((format!("claim {name} {} has no volume: {said}", class_of(claim)), hint.to_owned()));
    }
    None
}
