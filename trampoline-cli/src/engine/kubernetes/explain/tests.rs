//! Against objects recorded from a real cluster: each provoked there.

use contract::exit::Exit;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use kube::ResourceExt;

use super::{Facts, Verdict, judge::judge, not_ready};
use crate::engine::PodPhase;
use crate::engine::kubernetes::observe::Seen;

#[derive(Deserialize)]
struct Recorded {
    builder: String,
    namespace: String,
    now: Timestamp,
    set: Option<k8s_openapi::api::apps::v1::StatefulSet>,
    pod: Option<k8s_openapi::api::core::v1::Pod>,
    claims: Vec<k8s_openapi::api::core::v1::PersistentVolumeClaim>,
    events: Vec<k8s_openapi::api::core::v1::Event>,
    node: Option<k8s_openapi::api::core::v1::Node>,
    nodes: Vec<k8s_openapi::api::core::v1::Node>,
}

/// As it was, and some seconds later.
fn recorded(text: &str, later: i64) -> (Seen, Facts) {
    let r: Recorded = serde_json::from_str(text).unwrap();
    let facts = Facts {
        now: r.now + SignedDuration::from_secs(later),
        events: r.events,
        node: r.node,
        nodes: r.nodes,
    };
    let seen = Seen {
        builder: r.builder,
        namespace: r.namespace,
        set: r.set,
        pod: r.pod,
        claims: r.claims,
        status: None,
    };
    (seen, facts)
}

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("fixtures/", $name, ".json"))
    };
}

fn fatal(text: &str, later: i64) -> (Exit, String, String) {
    let (seen, facts) = recorded(text, later);
    match judge(&seen, &facts) {
        Verdict::Fatal { exit, message, hint } => (exit, message, hint),
        other => panic!("{other:?}"),
    }
}

/// One line each, with the cause and a next step.
#[test]
fn each_cause_is_named_with_what_to_do() {
    for (text, cause, step) in [
        (fixture!("memory"), "1 Insufficient memory; it reserves memory 100Gi + 64Mi", "memory-request"),
        (fixture!("taint"), "untolerated taint(s): node-1 has gpu=only:NoSchedule", "tolerations"),
        (fixture!("selector"), "didn't match Pod's node affinity/selector", "node-selector"),
        (fixture!("image-absent"), "cannot get image registry.lan:5000/nope:1: ", "image push REGISTRY"),
        (
            fixture!("image-never"),
            "\"localhost/nope:1\" is not present with pull policy of Never",
            "image load",
        ),
        (
            fixture!("claim-class"),
            "of class nope has no volume: storageclass.storage.k8s.io \"nope\" not found",
            "kubectl get storageclass",
        ),
        (fixture!("quota"), "exceeded quota: q, requested: limits.memory=", "kubectl describe quota"),
        (
            fixture!("psa"),
            "container \"daemon\" must not set securityContext.privileged=true",
            "`isolation = \"userns\"` under [daemon]",
        ),
        (fixture!("lr"), "maximum memory usage per Container is 2Gi", "kubectl describe limitrange"),
        (
            fixture!("configmap"),
            "the user container of builder f cannot be made: configmap \"nope\" not found",
            "take it out of [kubernetes]",
        ),
        (
            fixture!("seccomp"),
            "the daemon container of builder f cannot be made: cannot load seccomp profile",
            "`seccomp = \"unset\"`",
        ),
        (
            fixture!("idmap"),
            "the prepare container of builder f cannot be made: failed to fulfil mount request: failed to set MOUNT_ATTR_IDMAP",
            "storage-class",
        ),
    ] {
        let (_, message, hint) = fatal(text, 10);
        assert!(message.contains(cause), "{message}");
        assert!(hint.contains(step), "{hint}");
        assert!(!message.contains('\n') && !message.contains("preemption"), "{message}");
    }
}

#[test]
fn a_scheduler_is_given_a_moment_and_storage_a_minute() {
    for (text, later, gives_up) in [
        (fixture!("memory"), 0, false),
        (fixture!("memory"), 10, true),
        (fixture!("claim-unbound"), 10, false),
        (fixture!("claim-unbound"), 70, true),
    ] {
        let (seen, facts) = recorded(text, later);
        match judge(&seen, &facts) {
            Verdict::Fatal { message, .. } => assert!(gives_up, "{message}"),
            // Named at once, all the same.
            Verdict::Waiting(line) => {
                assert!(
                    !gives_up && (line.contains("memory") || line.contains("claim trampoline-f-")),
                    "{line}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The words are those of a 1.37 scheduler, just after its API server had been away.
#[test]
fn a_scheduler_may_hear_of_volumes_and_claims_late() {
    let judged = |unknown: &str, waited: i64| {
        let (mut seen, mut facts) = recorded(fixture!("memory"), 30);
        let claim = seen.claims.first().map(ResourceExt::name_any).unwrap_or_default();
        let pod = seen.pod.as_mut().unwrap();
        for condition in pod.status.as_mut().unwrap().conditions.as_mut().unwrap() {
            let unknown = unknown.replace("OURS", &claim);
            condition.message = Some(format!("0/2 nodes are available: {unknown} not found. not found"));
        }
        facts.now += SignedDuration::from_secs(waited);
        judge(&seen, &facts)
    };
    for (unknown, said, hint) in [
        ("persistentvolume \"pvc-7d4b\"", "heard of volume pvc-7d4b", "kubectl get pv pvc-7d4b"),
        ("persistentvolumeclaim \"OURS\"", "heard of claim trampoline-f-", "the claim is there"),
    ] {
        let verdict = judged(unknown, 0);
        assert!(matches!(&verdict, Verdict::Waiting(line) if line.contains(said)), "{verdict:?}");
        let verdict = judged(unknown, 40);
        assert!(matches!(&verdict, Verdict::Fatal { hint: told, .. } if told.contains(hint)), "{verdict:?}");
    }
    let verdict = judged("persistentvolumeclaim \"another\"", 0);
    assert!(matches!(&verdict, Verdict::Fatal { .. }), "one that is not there does not come: {verdict:?}");
}

#[test]
fn a_cluster_that_adds_a_node_is_waited_for() {
    let (seen, mut facts) = recorded(fixture!("memory"), 100);
    let mut event = facts
        .events
        .iter()
        .find(|event| event.involved_object.kind.as_deref() == Some("Pod"))
        .unwrap()
        .clone();
    event.reason = Some("TriggeredScaleUp".to_owned());
    facts.events.push(event);
    let verdict = judge(&seen, &facts);
    assert!(matches!(&verdict, Verdict::Waiting(line) if line.contains("adding a node")), "{verdict:?}");
}

#[test]
fn a_container_that_ends_again_and_again_is_asked_for_its_last_words() {
    let (seen, facts) = recorded(fixture!("crash"), 0);
    assert_eq!(seen.observed().phase(), PodPhase::Starting);
    let verdict = judge(&seen, &facts);
    assert!(
        matches!(&verdict, Verdict::Crashes { container, exit_code: 3, .. } if container == "daemon"),
        "{verdict:?}"
    );
}

/// The daemon's ends of the recorded pod, turned into this one.
fn ended_with(seen: &mut Seen, exit_code: i32, reason: &str) {
    let statuses =
        seen.pod.as_mut().unwrap().status.as_mut().unwrap().container_statuses.iter_mut().flatten();
    for status in statuses.filter(|status| status.name == "daemon") {
        for state in [&mut status.state, &mut status.last_state].into_iter().flatten() {
            if let Some(ended) = &mut state.terminated {
                (ended.exit_code, ended.reason) = (exit_code, Some(reason.to_owned()));
            }
        }
    }
}

#[test]
fn a_container_that_is_killed_again_and_again_starts_again() {
    let (mut seen, facts) = recorded(fixture!("crash"), 0);
    ended_with(&mut seen, 137, "Error");
    let verdict = judge(&seen, &facts);
    assert!(matches!(&verdict, Verdict::Waiting(line) if line.contains("exit code 137")), "{verdict:?}");
    ended_with(&mut seen, 137, "OOMKilled");
    let verdict = judge(&seen, &facts);
    assert!(matches!(&verdict, Verdict::Crashes { exit_code: 137, .. }), "{verdict:?}");
}

#[test]
fn a_runtime_without_user_namespaces_is_named_with_its_node() {
    let (mut seen, mut facts) = recorded(fixture!("idmap"), 0);
    let status = seen.pod.as_mut().unwrap().status.as_mut().unwrap();
    (status.container_statuses, status.init_container_statuses) = (None, None);
    let event = facts.events.last_mut().unwrap();
    event.reason = Some("FailedCreatePodSandBox".to_owned());
    // As a kubelet says it of containerd 1, and of a handler with an old runc.
    for (class, said, hinted) in [
        (None, "runtime does not support user namespaces", "`node-selector` under [kubernetes]"),
        (
            Some("old"),
            "RuntimeClass handler \"old-runc\" does not support user namespaces",
            "can name another than old",
        ),
    ] {
        seen.pod.as_mut().unwrap().spec.as_mut().unwrap().runtime_class_name = class.map(str::to_owned);
        facts.events.last_mut().unwrap().message =
            Some(format!("Failed to create pod sandbox: can't set `spec.hostUsers: false`, {said}"));
        match judge(&seen, &facts) {
            Verdict::Fatal { exit: Exit::Unsupported, message, hint } => {
                assert!(
                    message.contains("node node-1 cannot run the pod") && message.contains(said),
                    "{message}"
                );
                assert!(hint.contains("containerd 2.0") && hint.contains(hinted), "{hint}");
                assert!(hint.contains("`isolation = \"privileged\"`"), "{hint}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The first container's end in a recorded pod.
fn prepare_ended(seen: &mut Seen, exit_code: i32, restarts: i32) {
    let status = seen.pod.as_mut().unwrap().status.as_mut().unwrap();
    let prepare = status.init_container_statuses.as_mut().unwrap().first_mut().unwrap();
    prepare.last_state = None;
    prepare.restart_count = restarts;
    prepare.state = serde_json::from_value(serde_json::json!({
        "terminated": { "exitCode": exit_code, "reason": "Error" },
    }))
    .ok();
}

#[test]
fn what_the_first_container_refuses_it_refuses_once() {
    let (mut seen, facts) = recorded(fixture!("idmap"), 0);
    for (exit, refuses) in
        [(Exit::NotOurs, true), (Exit::NoRoom, true), (Exit::Io, false), (Exit::Stopping, false)]
    {
        prepare_ended(&mut seen, i32::from(exit.code()), 0);
        let verdict = judge(&seen, &facts);
        let crashes =
            matches!(&verdict, Verdict::Crashes { container, again: false, .. } if container == "prepare");
        assert_eq!(crashes, refuses, "{verdict:?}");
    }
}

#[test]
fn a_refusal_of_yesterday_is_none_of_today() {
    let (mut seen, facts) = recorded(fixture!("psa"), 0);
    let later = (facts.now + SignedDuration::from_secs(60)).to_string();
    let set = seen.set.as_mut().unwrap();
    let wanted = crate::engine::kubernetes::WANTED_AT.to_owned();
    set.metadata.annotations.get_or_insert_default().insert(wanted, later);
    let verdict = judge(&seen, &facts);
    assert!(matches!(verdict, Verdict::Waiting(_)), "{verdict:?}");
}

#[test]
fn a_node_that_is_gone_is_named_and_nobody_is_told_to_force_lightly() {
    let (mut seen, mut facts) = recorded(fixture!("crash"), 0);
    // As the node's controller writes it after its grace.
    facts.node = serde_json::from_value(serde_json::json!({
        "metadata": { "name": "node-1" },
        "status": { "conditions": [{
            "type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.", "lastTransitionTime": "2026-11-24T20:00:00Z",
        }] },
    }))
    .ok();
    assert!(not_ready(facts.node.as_ref().unwrap()).is_some());
    match judge(&seen, &facts) {
        Verdict::Silent { message, hint } => {
            assert!(
                message.contains("node node-1, where builder f is, does not answer (Kubelet stopped"),
                "{message}"
            );
            assert!(hint.contains("two machines would write to one store"), "{hint}");
        }
        other => panic!("{other:?}"),
    }
    // Who may not read nodes sees it in the pod.
    facts.node = None;
    let status = seen.pod.as_mut().unwrap().status.as_mut().unwrap();
    for container in status.container_statuses.as_mut().unwrap() {
        container.ready = true;
        container.state = serde_json::from_value(serde_json::json!({ "running": {} })).ok();
    }
    assert_eq!(seen.observed().phase(), PodPhase::Starting);
    assert!(matches!(judge(&seen, &facts), Verdict::Silent { .. }));
}
