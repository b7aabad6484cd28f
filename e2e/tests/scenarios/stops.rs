//! Down, and other ends.

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::nix_files::{quick, until_told};
use e2e::setting::setting;

use crate::ssh::ssh;

crate::scenarios! {
    Any: [
        vanished_pod_is_made_again_from_its_volumes,
        down_waits_for_a_running_build_and_keeps_its_result,
        whoever_comes_while_down_waits_is_served_after_the_stop,
        command_that_ends_during_a_stop_is_not_run_again,
        command_that_nobody_lets_in_is_told_from_one_that_ends_alike,
        command_that_is_killed_before_it_is_let_in_runs_after_all,
    ],
    Root: [
        setup_again_changes_nothing_and_shows_what_would_change,
        down_now_ends_the_build_and_says_why,
        terminated_pod_lets_the_build_end,
    ],
    Podman: [
        down_ends_a_container_that_has_not_heard_of_it,
    ],
}

fn setup_again_changes_nothing_and_shows_what_would_change() {
    let builder = Builder::set_up(&[]);
    let life = |builder: &Builder| builder.status()["pod"]["life"].clone();
    let before = life(&builder);
    let again = builder.cli(["setup"]).run().ok();
    assert!(again.stderr.contains("nothing to change"), "{again}");
    assert_eq!(life(&builder), before, "the pod was left alone");

    let tree = builder.pushed("kept", &[("default.nix", &*quick("t-kept", "kept"))]);
    let path = tree.cli(["build"]).run().ok();
    builder.configure(&[("builder.user.cpus", "1.5"), ("shutdown.idle-timeout", "\"45m\"")]);
    let dry = builder.cli(["setup", "--dry-run"]).run().ok();
    for part in ["cpu", "idle-timeout", "45m"] {
        assert!(dry.stderr.contains(part), "no {part} in {dry}");
    }
    assert_eq!(life(&builder), before, "a dry run changes nothing");
    let applied = builder.cli(["setup"]).run().ok();
    assert!(applied.stderr.contains("idle-timeout"), "{applied}");
    assert_ne!(life(&builder), before, "limits need another pod");
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), "kept");
}

fn vanished_pod_is_made_again_from_its_volumes() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("vanish", &[("default.nix", &*quick("t-vanish", "still here"))]);
    let path = tree.cli(["build"]).run().ok();
    builder.cli(["down"]).run().ok();
    setting().engine.vanish(builder.name());
    let status = builder.cli(["status"]).run().ok();
    assert!(status.stdout.contains("its pod is gone"), "status says so: {status}");
    let found = tree.cli(["shell", "--", "cat", "result"]).run().ok();
    assert_eq!(found.text(), "still here");
    assert_eq!(tree.cli(["build"]).run().ok().stdout, path.stdout);

    // Also while it runs, and with the client's own notes gone.
    setting().engine.vanish(builder.name());
    assert_eq!(tree.cli(["shell", "--", "cat", path.text()]).run().ok().text(), "still here");
}

/// A build that has begun, in a builder of its own, and ends when it is told to.
fn building() -> (Builder, e2e::checkout::Checkout, e2e::process::Live, String) {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("busy", &[("default.nix", &*until_told("t-busy"))]);
    let mut build = tree.cli(["build"]).start();
    let begun = build.line("begun ");
    let id = begun.trim().rsplit_once(' ').expect("begun NUMBER").1.to_owned();
    (builder, tree, build, id)
}

fn down_waits_for_a_running_build_and_keeps_its_result() {
    let (builder, tree, build, id) = building();
    let mut down = builder.cli(["down"]).start();
    down.line("waiting for ");
    builder.let_builds_end();
    down.output().ok();
    let build = build.output().ok();
    assert!(build.stdout.starts_with("/nix/store/"), "{build}");
    assert_eq!(tree.cli(["shell", "--", "cat", "result"]).run().ok().text(), id);
}

fn whoever_comes_while_down_waits_is_served_after_the_stop() {
    let (builder, tree, build, _) = building();
    // What it needs of the builder is asked for now.
    let by_ssh = ssh(&builder, "echo by ssh");
    let life = builder.status()["pod"]["life"].clone();
    let mut down = builder.cli(["down"]).start();
    down.line("waiting for ");
    let by_ssh = by_ssh.start();
    let by_shell = builder.cli(["shell", "--", "echo", "by shell"]).start();
    let again = tree.cli(["build"]).start();
    builder.let_builds_end();
    let first = build.output().ok();
    down.output().ok();
    assert_eq!(by_ssh.output().ok().text(), "by ssh");
    assert_eq!(by_shell.output().ok().text(), "by shell");
    assert_eq!(again.output().ok().stdout, first.stdout);
    let runs = |status: &serde_json::Value| status["state"] == "running" && status["pod"]["life"] != life;
    let status = builder.status_where(runs);
    assert!(runs(&status), "not {life}, which was stopped: {status}");
}

fn command_that_ends_during_a_stop_is_not_run_again() {
    let (builder, _, build, _) = building();
    // As `ssh` in it would end, and podman where a container has gone.
    let line = "echo run >>runs; echo begun; read -r end; exit 255";
    let mut session = builder.cli(["shell", "--", "sh", "-c", line]).start_typing();
    session.line("begun");
    let mut down = builder.cli(["down"]).start();
    down.line("waiting for ");
    session.type_in(b"end\n");
    let ended = session.output().ended(255);
    assert!(ended.stderr.contains("the command has run, and builder"), "{ended}");
    builder.let_builds_end();
    drop(build.output().ok());
    down.output().ok();
    assert_eq!(builder.shell("cat runs").ok().text(), "run");
}

fn command_that_nobody_lets_in_is_told_from_one_that_ends_alike() {
    let builder = Builder::set_up(&[]);
    builder.shell("echo run >>runs; exit 75").ended(75);
    // As it is between the end of user-init and that of its container.
    setting().engine.as_root(builder.name(), "rm /run/trampoline/user/control.sock").ok();
    builder.shell("echo run >>runs").refused(Exit::Stopping, "did not run the command");
    builder.cli(["down"]).run().ok();
    assert_eq!(builder.shell("cat runs").ok().text(), "run");
}

fn command_that_is_killed_before_it_is_let_in_runs_after_all() {
    let builder = Builder::set_up(&[]);
    let (name, engine) = (builder.name(), setting().engine);
    builder.shell("echo run >>runs; kill -9 $$").ended(137);
    assert_eq!(builder.shell("cat runs").ok().text(), "run");
    engine.signal(name, "user", "STOP");
    let call = builder.cli(["shell", "--", "sh", "-c", "echo run >>runs; echo in"]).start();
    // Its session asks by then, and is not answered.
    engine.inside(name, "user", "until cat /proc/[0-9]*/cmdline | grep -q 'echo [i]n'; do :; done").ok();
    engine.crash(name, "user");
    let ended = call.output();
    let mut runs = "run\nrun";
    if !engine.loses_nothing() && matches!(ended.code, 75 | 137) {
        // It said nothing, and that may have been lost: what may have run is not run again.
        runs = "run";
    } else {
        assert_eq!(ended.ok().text(), "in");
    }
    assert_eq!(builder.shell("cat runs").ok().text(), runs);
}

fn down_now_ends_the_build_and_says_why() {
    let (builder, tree, build, _) = building();
    builder.cli(["down", "--now"]).within(40).run().ok();
    let build = build.output();
    assert!(build.code != 0, "{build}");
    let status = builder.status();
    assert_eq!(status["state"], "stopped", "{status}");
    assert!(status["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "{status}");
    // The job's own record names the reason.
    let ends = tree.shell("cat /home/nix/.local/state/trampoline/jobs/*/exit.json").ok();
    assert!(ends.stdout.contains("\"note\":"), "{ends}");
}

fn down_ends_a_container_that_has_not_heard_of_it() {
    let (builder, _tree, build, _) = building();
    let engine = setting().engine;
    let mut down = builder.cli(["down"]).within(60).start();
    down.line("waiting for ");
    // A container that fails when the others are told is started again by podman, and knows nothing.
    engine.crash(builder.name(), "daemon");
    engine.revive(builder.name(), "daemon");
    down.output().ok();
    assert_eq!(builder.state(), "stopped");
    drop(build);
}

fn terminated_pod_lets_the_build_end() {
    let (builder, tree, build, id) = building();
    let engine = setting().engine;
    engine.terminate(builder.name());
    // It has heard of that, and waits for the build.
    engine
        .as_root(builder.name(), "until grep -q draining /run/trampoline/daemon/status.json; do :; done")
        .ok();
    builder.let_builds_end();
    builder.wait_stopped(60);
    drop(build.output());
    let status = builder.status();
    assert_eq!(status["state"], "stopped", "{status}");
    assert!(status["last_stop"]["last_activity"].as_u64().is_some_and(|at| at > 0), "{status}");
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(
        tree.shell(&format!("cat {}", path.text())).ok().text(),
        id,
        "the first run's result was kept"
    );
}
