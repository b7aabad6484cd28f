//! Parts of the cluster that go away for a while. Nothing else may run in it meanwhile, so these scenarios run by themselves.

use std::time::Duration;

use e2e::builder::Builder;
use e2e::cluster::Away;
use e2e::output::Output;

use super::building;

crate::scenarios! {
    Lab: [
        api_server_that_goes_away_during_a_build,
        api_server_that_goes_away_during_a_push,
        api_server_that_is_away_when_status_is_asked_for,
        kubelet_that_starts_again_during_a_build,
    ],
}

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(5);

fn away() {
    let gone = Away::new("apiserver");
    // Not a wait for something: it is what the scenario is about.
    std::thread::sleep(AWAY);
    drop(gone);
}

/// It went on, or says what happened and what to do.
fn clear(output: &Output) {
    let said = &output.stderr;
    assert!(output.code == 0 || (said.contains("error: ") && said.contains("hint: ")), "{output}");
    assert!(!said.contains("panicked"), "{output}");
}

fn api_server_that_goes_away_during_a_build() {
    let builder = Builder::set_up(&[]);
    let (tree, build, id) = building(&builder, 12);
    away();
    clear(&build.output());
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
    let mut push = tree.cli(["--verbose", "push-tarball"]).start();
    push.line("");
    away();
    clear(&push.output());
    // One tree or the other, and whole.
    tree.shell("case $(cat note) in first) ;; second) sha256sum --quiet -c sums ;; *) exit 1 ;; esac").ok();
    tree.cli(["push-tarball"]).run().ok();
    tree.shell("grep -q second note && sha256sum --quiet -c sums").ok();
    assert_eq!(builder.broken(), "", "of the store");
}

fn api_server_that_is_away_when_status_is_asked_for() {
    let builder = Builder::set_up(&[]);
    let gone = Away::new("apiserver");
    let status = builder.cli(["status"]).start();
    // See `away`.
    std::thread::sleep(AWAY);
    drop(gone);
    let status = status.output();
    clear(&status);
    assert!(status.code != 0 || status.stdout.contains("running"), "{status}");
    assert_eq!(builder.state(), "running");
}

fn kubelet_that_starts_again_during_a_build() {
    let builder = Builder::set_up(&[]);
    let life = builder.status()["pod"]["life"].clone();
    let (tree, build, id) = building(&builder, 8);
    drop(Away::new("kubelet"));
    clear(&build.output());
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id);
    assert_eq!(builder.status()["pod"]["life"], life);
}
