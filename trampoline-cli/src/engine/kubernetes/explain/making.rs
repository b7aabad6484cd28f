//! Containers and pods that a node cannot make.

use contract::exit::Exit;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;

use super::containers::last_cause;
use super::judge::of;
use super::{Facts, Verdict};
use crate::engine::kubernetes::observe::Seen;

/// What runc and crun say where a volume cannot be mounted for the users of a pod.
const IDMAP: &str = "MOUNT_ATTR_IDMAP";
/// What a kubelet says of a container runtime without user namespaces.
const NO_USERS: &str = "does not support user namespaces";

/// The runtime has begun to make it, and could not.
pub(super) fn never_ran(ended: &ContainerStateTerminated) -> bool {
    matches!(ended.reason.as_deref(), Some("StartError" | "ContainerCannotRun"))
}

pub(super) fn not_made(seen: &Seen, container: &str, message: &str) -> Verdict {
    let builder = &seen.builder;
    Verdict::Fatal {
        exit: Exit::Engine,
        message: format!(
            "the {container} container of builder {builder} cannot be made: {}",
            last_cause(message)
        ),
        hint: config_hint(message),
    }
}

fn config_hint(message: &str) -> String {
    if message.contains("seccomp profile") {
        "the profile that `seccomp` under [daemon] names is not on that node: its administrator puts it there (docs/userns.md), or \
         `seccomp = \"unset\"` does without, then `trampoline-cli setup`"
            .to_owned()
    } else if message.contains(IDMAP) {
        "the filesystem of that volume maps no users, as NFS and most of FUSE do not: another `storage-class` under [kubernetes] \
         (for claims that are made anew), or `isolation = \"privileged\"` under [daemon], then `trampoline-cli setup`"
            .to_owned()
    } else if message.contains("not found") {
        "make what is missing, or take it out of [kubernetes], then `trampoline-cli setup`".to_owned()
    } else {
        "`trampoline-cli setup` after a change of trampoline.toml makes the pod again".to_owned()
    }
}

/// Of a node that does not map users, or not with the runtime that the pod asks for, which it says of every try.
pub(super) fn without_users(seen: &Seen, pod: &Pod, facts: &Facts) -> Option<Verdict> {
    let uid = pod.uid().unwrap_or_default();
    let events = of(facts, &uid);
    let said = events.filter_map(|event| event.message.as_ref()).rfind(|said| said.contains(NO_USERS))?;
    let spec = pod.spec.clone().unwrap_or_default();
    let node = spec.node_name.unwrap_or_default();
    let other = match spec.runtime_class_name {
        Some(class) => {
            format!("`runtime-class` under [kubernetes] can name another than {class}, or none")
        }
        None => "`node-selector` under [kubernetes] chooses a node that has it".to_owned(),
    };
    Some(Verdict::Fatal {
        exit: Exit::Unsupported,
        message: format!("node {node} cannot run the pod of builder {}: {}", seen.builder, last_cause(said)),
        hint: format!(
            "it needs containerd 2.0 or CRI-O 1.25, with runc 1.2 or crun 1.9: {other}; `isolation = \"privileged\"` under [daemon] \
             needs no user namespaces; then `trampoline-cli setup`"
        ),
    })
}
