//! What `setup` of a builder that runs as it should asks of a cluster, and what it waits for in between.

use std::time::Duration;

use contract::handshake::Isolation;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::render::limits::Resolved;

/// Nothing is slow here: who waits longer waits for ever.
const HANGS: Duration = Duration::from_secs(20);

fn answer(request: &str, objects: &[Value]) -> Value {
    let recorded: Value = serde_json::from_str(include_str!("explain/fixtures/crash.json")).unwrap();
    let path = request.split(['?', ' ']).nth(1).unwrap();
    let (kind, name) = path.rsplit_once('/').unwrap();
    match name {
        "persistentvolumeclaims" => json!({ "metadata": {}, "items": recorded["claims"] }),
        "trampoline-f-0" => recorded["pod"].clone(),
        _ if request.contains("dryRun") || request.starts_with("GET ") => {
            let of_kind = |object: &&Value| {
                let known = permissions::Kind::of(object).unwrap();
                kind.ends_with(known.plural) && object["metadata"]["name"] == name
            };
            objects.iter().find(of_kind).unwrap().clone()
        }
        _ => recorded["set"].clone(),
    }
}

#[tokio::test]
async fn what_does_not_depend_on_an_answer_is_asked_side_by_side() {
    let config = Config::parse("", "trampoline.toml").unwrap();
    let sources = Sources {
        builder: "f",
        config: &config,
        text: "",
        ca_bundle: None,
        owner: "alice@laptop",
        ssh_port: 22_222,
        limits: &Resolved::default(),
        isolation: Isolation::Userns,
        hosts: &Hosts::new(),
    };
    let rendering = crate::render::kubernetes::render(&sources, None).unwrap();
    // Of a claim nothing is applied that is there.
    let claims = rendering.objects.iter().filter(|object| object["kind"] == "PersistentVolumeClaim").count();
    let compared = 2 * rendering.objects.len() - claims;
    let objects = rendering.objects.clone();
    // Nobody is answered before all have asked: one after the other, they wait for ever.
    let cluster =
        fake::together(vec![4, compared], move |request| answer(request, &objects).to_string()).await;
    let target = Target { context: None, namespace: None };
    let engine = Kubernetes {
        cluster: OnceCell::new_with(Some(cluster)),
        ..Kubernetes::new(target, Ui::new(false, true, false))
    };

    let seen = timeout(HANGS, engine.wanted("f")).await.expect("all four are asked at once").unwrap();
    let mut running = Observed { digest: Some(rendering.digest.clone()), ..seen };
    running.told = Some(super::super::PodPhase::Running);
    running.isolation = Some(Isolation::Userns);
    let isolated =
        timeout(HANGS, engine.isolation(&sources, &running)).await.expect("nobody is asked").unwrap();
    assert_eq!(isolated.isolation, Isolation::Userns);
    assert!(isolated.why.is_some_and(|why| why.contains("runs so")));
    let differs =
        timeout(HANGS, engine.differences(&rendering)).await.expect("all are asked at once").unwrap();
    assert_eq!(differs.map(|differs| differs.len()), Some(0));
}
