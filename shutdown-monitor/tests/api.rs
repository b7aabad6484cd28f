//! The API client against a small server that speaks the same: encrypted, with a certificate of a made-up authority.

mod server;

use std::process::Command;
use std::time::Duration;

use contract::cluster::StoppedBy;
use hyper::StatusCode;
use serde_json::json;
use shutdown_monitor::cluster::Cluster;
use shutdown_monitor::cluster::api::{Api, Error};
use shutdown_monitor::engine::Refusal;

use server::{Cluster as Fake, run};

const SCALE: &str = "/apis/apps/v1/namespaces/ns/statefulsets/trampoline-x/scale";
const BUDGET: &str = "/apis/policy/v1/namespaces/ns/poddisruptionbudgets/trampoline-x";
const NOTE: &str = "/api/v1/namespaces/ns/configmaps/trampoline-x-status";

fn api(fake: &Fake) -> Api {
    Api::new(fake.server(), "ns", "trampoline-x")
}

fn refusal(result: Result<impl std::fmt::Debug, Error>) -> String {
    match Refusal::from(result.expect_err("refused")) {
        Refusal::Conflict => "conflict".into(),
        Refusal::Trouble(text) => text,
    }
}

#[test]
fn what_is_asked_and_as_whom() {
    let fake = Fake::start();
    let api = api(&fake);
    fake.answer(StatusCode::OK, json!({"metadata": {"resourceVersion": "41"}, "spec": {"replicas": 1}}));
    let scale = run(api.scale()).expect("it answers");
    assert_eq!((scale.version.as_str(), scale.replicas), ("41", 1));
    fake.answer(StatusCode::OK, json!({"metadata": {"resourceVersion": "42"}, "spec": {}}));
    assert_eq!(run(api.scale()).expect("zero is left out").replicas, 0);
    for _ in 0..3 {
        fake.answer(StatusCode::OK, json!({}));
    }
    run(api.stop("41")).expect("it answers");
    run(api.budget(true)).expect("it answers");
    run(api.note(&json!({"status.json": "{}"}))).expect("it answers");
    let calls = fake.calls();
    let lines: Vec<String> = calls.iter().map(|c| format!("{} {} {}", c.method, c.path, c.body)).collect();
    assert_eq!(
        lines,
        [
            format!("GET {SCALE} "),
            format!("GET {SCALE} "),
            format!(
                r#"PATCH {SCALE}?fieldManager=shutdown-monitor {{"metadata":{{"resourceVersion":"41"}},"spec":{{"replicas":0}}}}"#
            ),
            format!(r#"PATCH {BUDGET}?fieldManager=shutdown-monitor {{"spec":{{"maxUnavailable":0}}}}"#),
            format!(r#"PATCH {NOTE}?fieldManager=shutdown-monitor {{"data":{{"status.json":"{{}}"}}}}"#),
        ]
    );
    assert!(calls.iter().all(|c| c.token == "Bearer first"), "{calls:?}");
    assert!(calls.iter().all(|c| c.kind == "application/merge-patch+json"), "{calls:?}");
}

#[test]
fn token_and_authority_are_read_at_each_use() {
    let fake = Fake::start();
    let api = api(&fake);
    fake.answer(StatusCode::OK, json!({}));
    run(api.budget(false)).expect("it answers");
    std::fs::write(fake.account().join("token"), "second\n").expect("scratch");
    fake.answer(StatusCode::OK, json!({}));
    run(api.budget(false)).expect("it answers");
    let tokens: Vec<_> = fake.calls().into_iter().map(|call| call.token).collect();
    assert_eq!(tokens, ["Bearer first", "Bearer second"]);
    // Another authority: not the server that we are told to trust.
    let other = Fake::start();
    std::fs::copy(other.account().join("ca.crt"), fake.account().join("ca.crt")).expect("scratch");
    let error = refusal(run(api.scale()));
    assert!(
        error.starts_with("connect to the API server at 127.0.0.1:") && error.contains("certificate"),
        "{error}"
    );
    assert_eq!(fake.calls().len(), 2, "and it has heard nothing");
    std::fs::write(fake.account().join("ca.crt"), "none").expect("scratch");
    assert!(refusal(run(api.scale())).contains("ca.crt holds no certificate"));
    std::fs::remove_file(fake.account().join("token")).expect("scratch");
    assert!(refusal(run(api.scale())).contains("is the token mounted?"));
}

#[test]
fn refusals_say_what_to_do() {
    let fake = Fake::start();
    let api = api(&fake);
    let said = json!({"message": "statefulsets.apps \"trampoline-x\" is forbidden: User \"u\" cannot patch resource"});
    for (status, wanted) in [
        (StatusCode::CONFLICT, "conflict"),
        (StatusCode::FORBIDDEN, "the API server refuses: statefulsets.apps \"trampoline-x\" is forbidden"),
        (StatusCode::FORBIDDEN, "setup --rbac"),
        (StatusCode::UNAUTHORIZED, "does not accept the pod's token"),
        (StatusCode::NOT_FOUND, "there is no statefulsets/scale trampoline-x in namespace ns"),
        (
            StatusCode::INTERNAL_SERVER_ERROR,
            "answers 500 for statefulsets/scale trampoline-x in namespace ns",
        ),
    ] {
        fake.answer(status, said.clone());
        let text = refusal(run(api.stop("1")));
        assert!(text.contains(wanted), "{status}: {text}");
    }
    fake.answer(StatusCode::OK, json!({"kind": "Something"}));
    assert!(refusal(run(api.scale())).contains("metadata"), "what is no scale is not taken for one");
    fake.be_silent();
    let mut impatient = fake.server();
    impatient.limit = Duration::from_millis(300);
    let text = refusal(run(Api::new(impatient, "ns", "trampoline-x").scale()));
    assert!(text.ends_with("has not answered in time"), "{text}");
    // It goes away in the middle of an answer, and then altogether.
    fake.hang_up();
    assert!(refusal(run(api.scale())).contains("the API server at 127.0.0.1:"));
    let mut nobody = fake.server();
    nobody.port = Fake::start().server().port;
    let text = refusal(run(Api::new(nobody, "ns", "trampoline-x").scale()));
    assert!(text.starts_with("connect to the API server at 127.0.0.1:"), "{text}");
}

#[test]
fn the_token_goes_to_this_server_alone() {
    let fake = Fake::start();
    fake.answer(StatusCode::TEMPORARY_REDIRECT, json!({}));
    fake.answer(StatusCode::OK, json!({}));
    let text = refusal(run(api(&fake).budget(true)));
    assert!(text.contains("answers 307 for poddisruptionbudgets"), "{text}");
    assert_eq!(fake.calls().len(), 1, "elsewhere nobody is asked");
    // No test may change the environment that others read: a process of its own.
    let mut again = Command::new(std::env::current_exe().expect("this test"));
    again.args(["--exact", "what_is_asked_and_as_whom"]).env_remove("NO_PROXY").env_remove("no_proxy");
    for proxy in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"] {
        again.env(proxy, "http://127.0.0.1:1");
    }
    let output = again.output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn nothing_is_left_of_a_call_that_was_given_up() {
    let fake = Fake::start();
    let mut impatient = fake.server();
    impatient.limit = Duration::from_millis(300);
    let impatient = Api::new(impatient, "ns", "trampoline-x");
    fake.be_silent();
    fake.answer(StatusCode::OK, json!({}));
    run(async {
        let text = refusal(impatient.budget(true).await);
        assert!(text.ends_with("has not answered in time"), "{text}");
        // This server hears the next only when the connection of the former has ended.
        api(&fake).budget(true).await.expect("it answers");
    });
}

#[test]
fn a_foreign_signal_is_explained_by_the_scale() {
    for (replicas, by) in [(0, StoppedBy::Scale), (1, StoppedBy::Pod)] {
        let fake = Fake::start();
        fake.answer(
            StatusCode::OK,
            json!({"metadata": {"resourceVersion": "9"}, "spec": {"replicas": replicas}}),
        );
        fake.answer(StatusCode::OK, json!({}));
        fake.answer(StatusCode::OK, json!({}));
        let mut cluster = Cluster::new(api(&fake));
        run(cluster.farewell(server::builder(), None)).expect("it answers");
        let calls = fake.calls();
        let data: serde_json::Value = serde_json::from_str(&calls[1].body).expect("JSON");
        let text = data["data"]["last-stop.json"].as_str().expect("text, as in a file");
        let stop: contract::cluster::ClusterStop = serde_json::from_str(text).expect("as agreed");
        assert_eq!((stop.by, stop.stop.last_activity), (by, 0), "{text}");
        assert!(data["data"]["status.json"].as_str().expect("text").contains(r#""state":"stopping""#));
        assert!(calls[2].path.starts_with(BUDGET) && calls[2].body.contains(r#""maxUnavailable":1"#));
    }
    // Of a stop of our own that is written already the reason stays.
    let fake = Fake::start();
    fake.answer(StatusCode::OK, json!({}));
    fake.answer(StatusCode::OK, json!({}));
    let mut cluster = Cluster::new(api(&fake));
    run(cluster.farewell(server::stopped_builder(), None)).expect("it answers");
    let calls = fake.calls();
    assert!(calls[0].path.starts_with(NOTE) && !calls[0].body.contains("last-stop.json"), "{calls:?}");
}
