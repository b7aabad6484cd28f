//! Parts of the cluster that go away for a while. Nothing else may run in it meanwhile, so these scenarios run by themselves.

pub(crate) mod registry;

use std::time::Duration;

use e2e::builder::Builder;
use e2e::cluster::{self, Away};
use e2e::output::Output;
use e2e::person::Person;
use e2e::process::Live;
use e2e::setting::setting;

use super::{building, pod};

crate::scenarios! {
    Lab: [
        api_server_that_goes_away_during_a_setup,
        api_server_that_goes_away_during_a_build,
        api_server_that_goes_away_during_a_push,
        api_server_that_goes_away_during_a_stop_and_a_start,
        api_server_that_is_silent_during_a_build,
        api_server_that_is_away_when_status_is_asked_for,
        kubelet_that_starts_again_during_a_build,
        status_asks_no_node,
        lost_node_is_named_and_nothing_is_forced,
    ],
}

/// Seconds that the API server is away; by default as few as a client surely notices.
const AWAY: &str = "E2E_AWAY_SECONDS";

fn stay_away(gone: Away) {
    let seconds = std::env::var(AWAY).map_or(5, |text| text.parse().expect("a number"));
    // Not a wait for something: it is what the scenario is about.
    std::thread::sleep(Duration::from_secs(seconds));
    drop(gone);
}

fn away() {
    stay_away(Away::apiserver());
}

/// The API server goes away once the command has said this.
fn away_after(mut command: Live, line: &str) -> Output {
    command.line(line);
    away();
    let output = command.output();
    clear(&output);
    output
}

/// It went on, or says what happened and what to do.
fn clear(output: &Output) {
    let said = &output.stderr;
    assert!(output.code == 0 || (said.contains("error: ") && said.contains("hint: ")), "{output}");
    assert!(!said.contains("panicked"), "{output}");
}

/// As the cluster calls it.
fn node(builder: &Builder) -> String {
    cluster::field(&pod(builder), ".spec.nodeName")
}

fn api_server_that_goes_away_during_a_setup() {
    let builder = Builder::new(Person::new(), &[]);
    let setup = builder.cli(["--verbose", "setup", "--yes"]).within(300).start();
    away_after(setup, "making builder");
    // What was begun is finished, or was removed and is made anew.
    builder.cli(["setup", "--yes"]).run().ok();
    assert_eq!(builder.shell("echo in").ok().text(), "in");
    assert_eq!(builder.broken(), "", "of the store");
}

fn api_server_that_goes_away_during_a_build() {
    let builder = Builder::set_up(&[]);
    let (tree, build, id) = building(&builder, 12);
    away();
    let build = build.output().ok();
    assert!(build.stderr.contains("following again") && build.stderr.contains("ended"), "{build}");
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id, "the first run went on");
    assert_eq!(builder.broken(), "", "of the store");
}

fn api_server_that_goes_away_during_a_push() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("away", &[("note", "first\n")]);
    let make = "head -c 200000000 /dev/urandom >big; sha256sum big >sums; echo second >note";
    tree.call("sh").args(["-euc", make]).run().ok();
    tree.commit();
    away_after(tree.cli(["--verbose", "push-tarball"]).start(), "");
    // One tree or the other, and whole.
    tree.shell("case $(cat note) in first) ;; second) sha256sum --quiet -c sums ;; *) exit 1 ;; esac").ok();
    tree.cli(["push-tarball"]).run().ok();
    tree.shell("grep -q second note && sha256sum --quiet -c sums").ok();
    assert_eq!(builder.broken(), "", "of the store");
}

fn api_server_that_goes_away_during_a_stop_and_a_start() {
    let builder = Builder::set_up(&[]);
    let (tree, build, id) = building(&builder, 8);
    away_after(builder.cli(["--verbose", "down"]).within(300).start(), "");
    drop(build.output());
    builder.cli(["down"]).run().ok();
    assert_eq!(builder.state(), "stopped");
    away_after(builder.cli(["--verbose", "up"]).within(300).start(), "");
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id, "the build had its time to end");
    assert_eq!(builder.broken(), "", "of the store");
}

fn api_server_that_is_silent_during_a_build() {
    let builder = Builder::set_up(&[]);
    let (tree, build, id) = building(&builder, 12);
    stay_away(Away::silent_apiserver());
    clear(&build.output());
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id, "the first run went on");
}

fn api_server_that_is_away_when_status_is_asked_for() {
    let builder = Builder::set_up(&[]);
    let gone = Away::apiserver();
    let status = builder.cli(["status"]).start();
    stay_away(gone);
    let status = status.output();
    clear(&status);
    assert!(status.code != 0 || status.stdout.contains("running"), "{status}");
    assert_eq!(builder.state(), "running");
}

fn kubelet_that_starts_again_during_a_build() {
    let builder = Builder::set_up(&[]);
    let life = builder.status()["pod"]["life"].clone();
    let (tree, build, id) = building(&builder, 8);
    drop(Away::kubelet(&node(&builder)));
    clear(&build.output());
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id);
    assert_eq!(builder.status()["pod"]["life"], life);
}

fn status_asks_no_node() {
    let builder = Builder::set_up(&[]);
    let before = builder.status();
    let gone = Away::kubelet(&node(&builder));
    let status = builder.cli(["status"]).within(10).run().ok();
    for part in ["running", "last activity", "system", &node(&builder), "cluster       v1."] {
        assert!(status.stdout.contains(part), "no {part:?} in {status}");
    }
    assert_eq!(builder.status()["pod"]["life"], before["pod"]["life"]);
    drop(gone);
}

fn lost_node_is_named_and_nothing_is_forced() {
    let builder = Builder::set_up(&[]);
    builder.shell("echo kept >~/kept").ok();
    let (node, uid) = (node(&builder), || cluster::field(&pod(&builder), ".metadata.uid"));
    let before = uid();
    let gone = Away::kubelet(&node);
    let unknown = "--for=condition=Ready=Unknown";
    cluster::kubectl(["wait", unknown, &format!("node/{node}"), "--timeout=90s"]).run().ok();
    cluster::wait_for(
        &cluster::namespace(),
        &pod(&builder),
        r#".status.conditions[?(@.type=="Ready")].status"#,
        "False",
    );
    let named = |words: &str| words.contains(&format!("node {node}, ")) && words.contains("does not answer");
    let status = builder.status();
    assert_eq!(status["state"], "failed", "{status}");
    assert!(status["reason"].as_str().is_some_and(named), "{status}");
    for command in [&["shell", "--", "true"][..], &["down"], &["setup", "--yes"]] {
        let output = builder.cli(command.iter().copied()).within(60).run();
        assert!(output.code != 0 && named(&output.stderr), "{output}");
        assert!(output.stderr.contains("bring the node back"), "what to do: {output}");
        assert_eq!(uid(), before, "only a person may say that a pod is dead");
    }
    assert_eq!(setting().engine.pods(builder.name()), 1);
    drop(gone);
    // The cluster need not know yet.
    assert_eq!(builder.shell("cat ~/kept").ok().text(), "kept");
    assert_eq!(builder.broken(), "", "of the store");
}
