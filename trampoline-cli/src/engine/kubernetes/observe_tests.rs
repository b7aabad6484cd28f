//! Where a builder stands, from objects as a real cluster has them.

use contract::cluster;
use serde_json::{Value, json};

use super::Seen;
use crate::engine::{PodPhase, Published, Volume, label};

/// All four containers run, but for what `change` makes of it.
fn seen(change: impl FnOnce(&mut Value)) -> Seen {
    let mut recorded: Value = serde_json::from_str(include_str!("explain/fixtures/crash.json")).unwrap();
    for container in recorded["pod"]["status"]["containerStatuses"].as_array_mut().unwrap() {
        container["state"] = json!({ "running": { "startedAt": "2026-11-24T20:08:56Z" } });
        container["ready"] = json!(true);
    }
    for condition in recorded["pod"]["status"]["conditions"].as_array_mut().unwrap() {
        condition["status"] = json!("True");
    }
    change(&mut recorded);
    Seen {
        builder: "f".to_owned(),
        namespace: "k".to_owned(),
        set: serde_json::from_value(recorded["set"].take()).unwrap(),
        pod: serde_json::from_value(recorded["pod"].take()).unwrap(),
        claims: serde_json::from_value(recorded["claims"].take()).unwrap(),
        status: serde_json::from_value(recorded["status"].take()).unwrap(),
    }
}

fn phase(change: impl FnOnce(&mut Value)) -> PodPhase {
    seen(change).observed().phase()
}

fn container<'a>(recorded: &'a mut Value, name: &str) -> &'a mut Value {
    let all = recorded["pod"]["status"]["containerStatuses"].as_array_mut().unwrap();
    all.iter_mut().find(|container| container["name"] == name).unwrap()
}

#[test]
fn phases() {
    assert_eq!(phase(|_| {}), PodPhase::Running);
    assert_eq!(
        phase(|all| container(all, "maintenance")["state"] = json!({ "waiting": {} })),
        PodPhase::Running
    );
    assert_eq!(phase(|all| container(all, "daemon")["state"] = json!({ "waiting": {} })), PodPhase::Starting);
    assert_eq!(phase(|all| all["set"]["spec"]["replicas"] = json!(0)), PodPhase::Stopping);
    let deleted = json!("2026-11-24T20:09:00Z");
    assert_eq!(phase(|all| all["pod"]["metadata"]["deletionTimestamp"] = deleted), PodPhase::Stopping);
    assert_eq!(phase(|all| all["pod"] = Value::Null), PodPhase::Starting);
    let stopped = |all: &mut Value| {
        all["pod"] = Value::Null;
        all["set"]["spec"]["replicas"] = json!(0);
    };
    assert_eq!(phase(stopped), PodPhase::Stopped);
    let gone = |all: &mut Value| {
        all["pod"] = Value::Null;
        all["set"] = Value::Null;
    };
    assert_eq!(phase(gone), PodPhase::Absent);
    // Its claims alone can be made a builder of again.
    assert!(seen(gone).observed().exists());
}

#[test]
fn what_is_told_of_it() {
    let observed = seen(|_| {}).observed();
    assert_eq!(observed.volumes, [Volume::Store, Volume::Home]);
    assert_eq!(observed.image.as_deref(), Some("localhost/nix-trampoline:k4b"));
    assert_eq!(observed.place.unwrap().node.as_deref(), Some("node-1"));
    assert!(observed.owner.is_some() && observed.digest.is_some());
    // A pod of the template before: `setup` has said what the next one is, and this one runs on.
    let old = |all: &mut Value| all["pod"]["metadata"]["annotations"][label::DIGEST] = json!("before");
    assert_eq!(seen(old).observed().digest.as_deref(), Some("before"));
}

#[test]
fn a_note_of_an_earlier_pod_is_none_of_this_one() {
    let note = |at: u64| {
        let life = "boot:1";
        let builder = json!({
            "life": life, "ready": null, "agents": [], "daemon": null, "user": null, "idle": null, "stop": null,
            "drain": null, "store": null, "pids_limit": null,
        });
        let status = json!({ "at": at, "state": "idle", "version": "0.1.0", "builder": builder }).to_string();
        move |all: &mut Value| all["status"] = json!({ "data": { cluster::STATUS: status } })
    };
    let published = |at| matches!(seen(note(at)).observed().published, Published::Read(Some(_)));
    assert!(published(4_000_000_000));
    assert!(!published(1_700_000_000));
}
