//! When a builder stops by itself.

use e2e::builder::Builder;
use e2e::nix_files::slow;
use nix::sys::signal::Signal;

crate::scenarios! {
    Any: [
        idle_builder_stops_and_remembers_why,
    ],
    Root: [
        silent_build_and_open_session_are_not_idle,
        changed_idle_timeout_reaches_a_running_builder,
    ],
}

fn idle_builder_stops_and_remembers_why() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"4s\"")]);
    builder.wait_stopped(60);
    let status = builder.status();
    assert_eq!(status["state"], "stopped", "an idle stop is no failure: {status}");
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("idle")), "{status}");
    builder.cli(["shell", "--", "true"]).run().ok();
}

fn silent_build_and_open_session_are_not_idle() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"4s\"")]);
    // Each lasts twice as long as the builder may be idle. Nobody follows the build.
    let files = [("default.nix", &*slow("t-silent", 9)), ("again.nix", &slow("t-silent-again", 8))];
    let tree = builder.pushed("silent", &files);
    let mut build = tree.cli(["build"]).start();
    let begun = build.line("begun ");
    let id = begun.trim().rsplit_once(' ').expect("begun NUMBER").1;
    build.signal(Signal::SIGKILL);
    drop(build);
    builder.wait_stopped(60);
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id, "that build was let to its end");

    tree.cli(["build", "-f", "again.nix"]).run().ok();
    let session = tree.shell("sleep 9; echo open to the end").ok();
    assert_eq!(session.text(), "open to the end");
    // Those who work would have said no in any case; but admission is closed while they are asked.
    let monitor = builder.cli(["logs", "shutdown-monitor"]).run().ok();
    assert!(!format!("{monitor}").contains("not idle after all"), "{monitor}");
    builder.wait_stopped(60);
    assert_eq!(builder.state(), "stopped");
}

fn changed_idle_timeout_reaches_a_running_builder() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"1h\"")]);
    let life = builder.status()["pod"]["life"].clone();
    builder.configure(&[("shutdown.idle-timeout", "\"10s\"")]);
    builder.cli(["setup"]).run().ok();
    let now = builder.status()["pod"]["life"].clone();
    assert!(now.is_null() || now == life, "no other pod was made for it");
    builder.wait_stopped(60);
    assert_eq!(builder.state(), "stopped");
}
