//! Nodes that a pod may run on, and whether they map users. Pure.

use k8s_openapi::api::core::v1::{
    Node, NodeSelectorRequirement, NodeSelectorTerm, NodeStatus, PodSpec, Taint,
};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::ResourceExt;

use crate::engine::kubernetes::explain::tolerated;

/// The first minor version of Kubernetes 1 whose kubelets map users, and leave `/proc` as it is, without being told to.
const KUBELET: u32 = 33;
/// The kubelet's own taints: states that pass.
const PASSING: &str = "node.kubernetes.io/";

/// The pod as the API server will have it of that class.
pub(super) fn placed(pod: &PodSpec, class: &RuntimeClass) -> PodSpec {
    let mut pod = pod.clone();
    let scheduling = class.scheduling.clone().unwrap_or_default();
    pod.node_selector.get_or_insert_default().extend(scheduling.node_selector.unwrap_or_default());
    pod.tolerations.get_or_insert_default().extend(scheduling.tolerations.unwrap_or_default());
    pod
}

/// Whether the scheduler may choose this node for the pod, as far as the node is concerned.
pub(super) fn eligible(node: &Node, pod: &PodSpec) -> bool {
    let label = |key: &str| node.labels().get(key).map(String::as_str);
    let selected = pod.node_selector.iter().flatten().all(|(key, value)| label(key) == Some(value.as_str()));
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    let keeps_out = |taint: &Taint| {
        taint.effect != "PreferNoSchedule"
            && !taint.key.starts_with(PASSING)
            && !tolerated(pod.tolerations.as_deref().unwrap_or_default(), taint)
    };
    selected
        && pod.node_name.as_ref().is_none_or(|name| *name == node.name_any())
        && required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| meets(node, term)))
        && label("kubernetes.io/os").is_none_or(|os| os == "linux")
        && !taints.iter().any(keeps_out)
}

/// An empty term is met by no node.
fn meets(node: &Node, term: &NodeSelectorTerm) -> bool {
    let labels = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let name = node.name_any();
    (!labels.is_empty() || !fields.is_empty())
        && labels.iter().all(|one| holds(node.labels().get(&one.key).map(String::as_str), one))
        && fields.iter().all(|one| one.key == "metadata.name" && holds(Some(&name), one))
}

fn holds(value: Option<&str>, requirement: &NodeSelectorRequirement) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let one_of = || value.is_some_and(|value| values.iter().any(|other| other == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let compared = || Some((number(value?)?, number(values.first()?)?));
    match requirement.operator.as_str() {
        "In" => one_of(),
        "NotIn" => !one_of(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compared().is_some_and(|(is, than)| is > than),
        "Lt" => compared().is_some_and(|(is, than)| is < than),
        _ => false,
    }
}

/// Why it cannot map the users of a pod that this handler of its container runtime makes; none: it can.
pub(super) fn lacks(node: &Node, handler: &str) -> Option<String> {
    let status = node.status.clone().unwrap_or_default();
    let info = status.node_info.as_ref();
    let kubelet = info.map(|info| info.kubelet_version.as_str()).unwrap_or_default();
    if minor(kubelet).is_some_and(|minor| minor < KUBELET) {
        return Some(format!("its kubelet is {kubelet}, and user namespaces need v1.{KUBELET}"));
    }
    let runtime = info.map_or("of unknown version", |info| info.container_runtime_version.as_str());
    match maps_users(&status, handler) {
        Some(true) => None,
        _ if handler.is_empty() => Some(format!("its container runtime ({runtime}) has no user namespaces")),
        _ => Some(format!(
            "its container runtime ({runtime}) has no user namespaces for the runtime class of handler {handler}"
        )),
    }
}

fn maps_users(status: &NodeStatus, handler: &str) -> Option<bool> {
    let named = |name: Option<&str>| name.unwrap_or_default() == handler;
    let handlers = status.runtime_handlers.as_deref()?;
    handlers.iter().find(|known| named(known.name.as_deref()))?.features.as_ref()?.user_namespaces
}

/// Of `v1.33.4-eks-1`.
fn minor(version: &str) -> Option<u32> {
    let (major, rest) = version.strip_prefix('v')?.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()?;
    (major == "1").then_some(minor)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, kubelet: &str, handlers: &Value, labels: &Value, taints: &Value) -> Node {
        serde_json::from_value(json!({
            "metadata": { "name": name, "labels": labels },
            "spec": { "taints": taints },
            "status": {
                "nodeInfo": {
                    "kubeletVersion": kubelet, "containerRuntimeVersion": "containerd://2.2.9",
                    "architecture": "amd64", "bootID": "", "kernelVersion": "6.18.0", "kubeProxyVersion": "",
                    "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
                },
                "runtimeHandlers": handlers,
            },
        }))
        .unwrap()
    }

    fn pod(spec: &Value) -> PodSpec {
        let mut spec = spec.clone();
        spec["containers"] = json!([]);
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_node_maps_users_if_kubelet_and_handler_do() {
        let both = json!([
            { "name": "", "features": { "userNamespaces": true } },
            { "name": "kata", "features": { "userNamespaces": false } },
        ]);
        for (kubelet, handlers, handler, lack) in [
            ("v1.37.2", &both, "", None),
            ("v1.33.0-eks-1a", &both, "", None),
            ("v1.32.9", &both, "", Some("kubelet is v1.32.9")),
            ("v1.37.2", &both, "kata", Some("runtime class of handler kata")),
            ("v1.37.2", &both, "gvisor", Some("runtime class of handler gvisor")),
            // As containerd 1.6 and 1.7 have it.
            ("v1.37.2", &json!([{ "name": "", "features": {} }]), "", Some("containerd://2.2.9")),
            ("v1.37.2", &json!(null), "", Some("containerd://2.2.9")),
        ] {
            let found = lacks(&node("a", kubelet, handlers, &json!({}), &json!([])), handler);
            match (lack, &found) {
                (None, None) => {}
                (Some(words), Some(found)) if found.contains(words) => {}
                _ => panic!("{kubelet} {handler:?}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_pod_goes_where_selector_affinity_and_taints_let_it() {
        let labels = json!({ "disk": "nvme", "cores": "8", "kubernetes.io/arch": "amd64" });
        let plain = node("a", "v1.37.2", &json!([]), &labels, &json!([]));
        let term = |key: &str, operator: &str, values: &[&str]| {
            json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [{ "matchExpressions": [
                    { "key": key, "operator": operator, "values": values }
                ] }],
            } } } })
        };
        for (spec, goes) in [
            (json!({}), true),
            (json!({ "nodeSelector": { "disk": "nvme" } }), true),
            (json!({ "nodeSelector": { "disk": "nvme", "gpu": "" } }), false),
            (json!({ "nodeName": "a" }), true),
            (json!({ "nodeName": "b" }), false),
            (term("disk", "In", &["ssd", "nvme"]), true),
            (term("disk", "NotIn", &["nvme"]), false),
            (term("gpu", "NotIn", &["nvme"]), true),
            (term("gpu", "Exists", &[]), false),
            (term("gpu", "DoesNotExist", &[]), true),
            (term("cores", "Gt", &["7"]), true),
            (term("cores", "Lt", &["8"]), false),
        ] {
            assert_eq!(eligible(&plain, &pod(&spec)), goes, "{spec}");
        }
        let by_name = json!({ "affinity": { "nodeAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                { "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["b"] }] },
                { "matchExpressions": [{ "key": "disk", "operator": "Exists" }] },
            ],
        } } } });
        assert!(eligible(&plain, &pod(&by_name)), "one of two terms");
        let taint = |key: &str, effect: &str| {
            node(
                "a",
                "v1.37.2",
                &json!([]),
                &labels,
                &json!([{ "key": key, "value": "yes", "effect": effect }]),
            )
        };
        let exists = json!({ "tolerations": [{ "key": "gpu", "operator": "Exists" }] });
        for (node, spec, goes) in [
            (taint("gpu", "NoSchedule"), json!({}), false),
            (taint("gpu", "NoExecute"), json!({}), false),
            (taint("gpu", "PreferNoSchedule"), json!({}), true),
            (taint("gpu", "NoSchedule"), exists, true),
            (taint("node.kubernetes.io/unreachable", "NoExecute"), json!({}), true),
            (
                node("w", "v1.37.2", &json!([]), &json!({ "kubernetes.io/os": "windows" }), &json!([])),
                json!({}),
                false,
            ),
        ] {
            assert_eq!(eligible(&node, &pod(&spec)), goes, "{spec} {:?}", node.spec);
        }
    }

    #[test]
    fn a_runtime_class_has_a_say_in_where_a_pod_goes() {
        let of = |scheduling: &Value| -> RuntimeClass {
            let class = json!({ "metadata": {}, "handler": "kata", "scheduling": scheduling });
            serde_json::from_value(class).unwrap()
        };
        let taints = json!([{ "key": "kata", "effect": "NoSchedule" }]);
        let tainted = node("a", "v1.37.2", &json!([]), &json!({ "disk": "nvme" }), &taints);
        let tolerations = json!([{ "key": "kata", "operator": "Exists" }]);
        for (scheduling, goes) in [
            (json!(null), false),
            (json!({ "tolerations": tolerations }), true),
            (json!({ "tolerations": tolerations, "nodeSelector": { "kata": "yes" } }), false),
        ] {
            let pod = placed(&pod(&json!({ "nodeSelector": { "disk": "nvme" } })), &of(&scheduling));
            assert_eq!(eligible(&tainted, &pod), goes, "{scheduling}");
        }
    }
}
