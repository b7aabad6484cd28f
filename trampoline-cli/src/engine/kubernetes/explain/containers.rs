//! A pod that has a node: images, volumes, and containers that end.

use contract::exit::Exit;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus, Event, Pod};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt;

use super::judge::{at, of};
use super::making::{never_ran, not_made, without_users};
use super::{Facts, Verdict};
use crate::engine::kubernetes::observe::Seen;
use crate::engine::observed::killed_from_outside;
use crate::render::PREPARE;

/// A node that prepares volumes for longer than this does something that deserves a word.
const LONG: SignedDuration = SignedDuration::from_secs(45);

/// See the module.
pub(super) fn judge(seen: &Seen, pod: &Pod, facts: &Facts) -> Verdict {
    let status = pod.status.clone().unwrap_or_default();
    if matches!(status.phase.as_deref(), Some("Failed" | "Succeeded")) {
        let why = [status.reason, status.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
        return Verdict::Waiting(format!("its pod has ended ({why}); the cluster makes another"));
    }
    let statuses: Vec<ContainerStatus> = status
        .init_container_statuses
        .unwrap_or_default()
        .into_iter()
        .chain(status.container_statuses.unwrap_or_default())
        .collect();
    for status in &statuses {
        if let Some(verdict) = waiting(seen, pod, status, facts) {
            return verdict;
        }
    }
    if let Some(verdict) = statuses.iter().find_map(|status| ended(seen, pod, status)) {
        return verdict;
    }
    let at_work = |status: &ContainerStatus| {
        status.name == PREPARE && status.state.as_ref().is_some_and(|state| state.running.is_some())
    };
    if statuses.iter().any(at_work) {
        return Verdict::Prepares;
    }
    if let Some(verdict) = without_users(seen, pod, facts) {
        return verdict;
    }
    let pending = statuses.iter().any(|status| {
        status.state.as_ref().is_none_or(|state| state.running.is_none() && state.terminated.is_none())
    });
    if pending || statuses.is_empty() { preparing(pod, facts) } else { Verdict::None }
}

/// What the kubelet says of a container that it cannot start.
fn waiting(seen: &Seen, pod: &Pod, status: &ContainerStatus, facts: &Facts) -> Option<Verdict> {
    let waiting = status.state.as_ref()?.waiting.as_ref()?;
    let message = waiting.message.clone().unwrap_or_default();
    let fatal = |message: String, hint: String| Some(Verdict::Fatal { exit: Exit::Engine, message, hint });
    let container = &status.name;
    match waiting.reason.as_deref()? {
        "InvalidImageName"
        | "ErrImageNeverPull"
        | "ImagePullBackOff"
        | "ErrImagePull"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
            let image = image(pod, container).unwrap_or_else(|| status.image.clone());
            let pulled = of(facts, &pod.uid().unwrap_or_default())
                .rfind(|event| event.reason.as_deref() == Some("Failed") && mentions(event, "pull"))
                .and_then(|event| event.message.clone());
            let why = if message.contains(": ") { message } else { pulled.unwrap_or(message) };
            fatal(
                format!("node {node} cannot get image {image}: {}", last_cause(&why)),
                image_hint(&image, &why),
            )
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" | "StartError" => {
            Some(not_made(seen, container, &message))
        }
        "CrashLoopBackOff" => {
            let ended = status.last_state.as_ref().and_then(|state| state.terminated.as_ref());
            if let Some(ended) = ended.filter(|ended| never_ran(ended)) {
                return Some(not_made(seen, container, ended.message.as_deref().unwrap_or_default()));
            }
            if let Some(ended) = ended.filter(|ended| was_killed(ended)) {
                return Some(starts_again(status, ended));
            }
            Some(Verdict::Crashes {
                container: container.clone(),
                exit_code: ended.map_or(0, |ended| ended.exit_code),
                reason: ended.and_then(|ended| ended.reason.clone()),
                again: true,
            })
        }
        _ => None,
    }
}

fn image(pod: &Pod, container: &str) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let all = spec.init_containers.iter().flatten().chain(&spec.containers);
    all.into_iter().find(|known| known.name == container)?.image.clone()
}

/// `Back-off pulling image "x": ErrImagePull: rpc error: code = NotFound desc = failed to pull ...: CAUSE`
pub(super) fn last_cause(message: &str) -> String {
    let after = message.split_once(" desc = ").map_or(message, |(_, after)| after);
    let parts: Vec<&str> = after.split(": ").collect();
    parts[parts.len().saturating_sub(3)..].join(": ")
}

fn image_hint(image: &str, why: &str) -> String {
    let why = why.to_lowercase();
    if why.contains("never") || image.starts_with("localhost/") {
        "the image is on no registry that the node can ask: `trampoline-cli image load` puts it on the nodes of minikube and kind, \
         `trampoline-cli image push REGISTRY` where others pull it from"
            .to_owned()
    } else if ["unauthorized", "denied", "authentication", "forbidden", "authorization"]
        .iter()
        .any(|word| why.contains(word))
    {
        "name a secret of that registry with `pull-secrets` under [kubernetes]".to_owned()
    } else if why.contains("invalid") {
        "correct `image` under [builder], then `trampoline-cli setup`".to_owned()
    } else {
        "correct `image` under [builder], then `trampoline-cli setup`; `trampoline-cli image push REGISTRY` puts the image of this program there"
            .to_owned()
    }
}

/// Between an end and the next start: once is an accident, twice is a habit.
fn ended(seen: &Seen, pod: &Pod, status: &ContainerStatus) -> Option<Verdict> {
    let ended = status.state.as_ref()?.terminated.as_ref()?;
    if never_ran(ended) {
        return Some(not_made(seen, &status.name, ended.message.as_deref().unwrap_or_default()));
    }
    // An init container that has ended well stays that way.
    let done = ended.exit_code == 0
        && !pod.spec.as_ref()?.containers.iter().any(|container| container.name == status.name);
    let again =
        status.restart_count > 0 && status.last_state.as_ref().is_some_and(|last| last.terminated.is_some());
    // What it refuses it will refuse again, and nobody else can say so before it has ended well.
    let refuses = status.name == PREPARE && Exit::from_code(ended.exit_code).is_some_and(is_refusal);
    if !done && !was_killed(ended) && (again || refuses) {
        return Some(Verdict::Crashes {
            container: status.name.clone(),
            exit_code: ended.exit_code,
            reason: ended.reason.clone(),
            again,
        });
    }
    (ended.exit_code != 0).then(|| starts_again(status, ended))
}

/// The volume, the node or the configuration is not what it should be.
fn is_refusal(exit: Exit) -> bool {
    matches!(
        exit,
        Exit::NotOurs | Exit::StoreNewer | Exit::ReadOnly | Exit::NoRoom | Exit::Unsupported | Exit::Config
    )
}

/// By a signal from outside: the next start is as good as the first, however often it happens. Too little memory is a cause of
/// the container's own.
fn was_killed(ended: &ContainerStateTerminated) -> bool {
    killed_from_outside(ended.exit_code) && ended.reason.as_deref() != Some("OOMKilled")
}

fn starts_again(status: &ContainerStatus, ended: &ContainerStateTerminated) -> Verdict {
    Verdict::Waiting(format!(
        "the {} container ended with exit code {}; it starts again",
        status.name, ended.exit_code
    ))
}

fn mentions(event: &Event, word: &str) -> bool {
    event.message.as_ref().is_some_and(|message| message.contains(word))
}

/// What takes long on a node: images, volumes.
fn preparing(pod: &Pod, facts: &Facts) -> Verdict {
    let uid = pod.uid().unwrap_or_default();
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let last = of(facts, &uid).rfind(|event| {
        !matches!(event.reason.as_deref(), Some("Scheduled" | "Created" | "Started" | "Pulled"))
    });
    let age = |event: &Event| at(event).map_or(SignedDuration::ZERO, |at| facts.now.duration_since(at));
    let of_event = last.and_then(|event| {
        let message = event.message.clone().unwrap_or_default();
        match event.reason.as_deref()? {
            "Pulling" => {
                let done = of(facts, &uid).any(|other| other.reason.as_deref() == Some("Pulled") && at(other) >= at(event));
                let image = message.split('"').nth(1).unwrap_or("the image").to_owned();
                (!done).then(|| format!("node {node} is pulling {image}, for {} s now", age(event).as_secs().max(0)))
            }
            "FailedAttachVolume" if message.contains("Multi-Attach") || message.contains("attached") => Some(format!(
                "its volume is still attached to another node; the cluster takes it from there, which can take 6 min ({message})"
            )),
            "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" | "FailedCreatePodSandBox" => {
                Some(format!("node {node}: {message}"))
            }
            _ => None,
        }
    });
    if let Some(line) = of_event {
        return Verdict::Waiting(line);
    }
    let waits = pod
        .status
        .as_ref()
        .and_then(|status| status.start_time.as_ref())
        .map(|time| facts.now.duration_since(time.0));
    match waits.filter(|waits| *waits > LONG) {
        Some(waits) => Verdict::Waiting(format!(
            "node {node} has been preparing its volumes for {} s; with SELinux a large store is relabelled file by file, which a \
             `seLinuxOptions.level` in `pod-patch` avoids where the storage can be mounted with a label",
            waits.as_secs()
        )),
        None => Verdict::Waiting(format!("node {node} is making its containers")),
    }
}
