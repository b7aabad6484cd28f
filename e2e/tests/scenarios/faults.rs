//! What breaks, and what must hold nevertheless.

use e2e::builder::Builder;
use e2e::nix_files::quick;
use e2e::output::Output;
use e2e::processes;
use e2e::setting::setting;
use serde_json::Value;

use crate::shared;

crate::scenarios! {
    Any: [
        killed_daemon_container_comes_back,
        hostile_user_cannot_touch_what_others_publish,
        fork_bomb_of_the_user_leaves_the_daemon_building,
    ],
    Root: [
        killed_nix_daemon_is_replaced_and_builds_go_on,
        ready_file_of_a_dead_daemon_is_not_believed,
    ],
}

fn ready(builder: &Builder) -> Value {
    builder.status()["pod"]["ready"].clone()
}

fn as_root(builder: &Builder, line: &str) -> Output {
    setting().engine.as_root(builder.name(), line)
}

/// The id of what daemon-init itself runs as nix-daemon: the listener, whose own children are the workers. Two live for a
/// moment after `setup` has brought a key.
fn listener(builder: &Builder) -> Output {
    let find = processes::named(
        "nix-daemon",
        "[ -n \"$parent\" ] && [ \"$(cat /proc/$parent/comm)\" = daemon-init ]",
    );
    let line = format!(
        "n=0; while set -- $({find}); [ $# -ne 1 ]; do n=$((n+1)); [ $n -lt 500 ] || exit 1; done; echo $1"
    );
    as_root(builder, &line).ok()
}

fn killed_nix_daemon_is_replaced_and_builds_go_on() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("listener", &[("default.nix", &*quick("t-listener", "built"))]);
    let before = listener(&builder);
    let kill = format!("kill -9 {}", before.text());
    // What users see must be void before anything else happens: whoever comes now waits for the next one.
    as_root(&builder, &kill).ok();
    tree.cli(["build"]).run().ok();
    let after = listener(&builder);
    assert_ne!(after.stdout, before.stdout);
    assert_eq!(builder.state(), "running");
}

fn killed_daemon_container_comes_back() {
    let builder = Builder::set_up(&[]);
    for name in ["crash", "wish"] {
        let tree = builder.pushed(name, &[("default.nix", &*quick(&format!("t-{name}"), "built"))]);
        let before = ready(&builder);
        match name {
            "crash" => setting().engine.crash(builder.name(), "daemon"),
            _ => setting().engine.kill(builder.name(), "daemon"),
        }
        // The container alone has died: the life of the pod goes on, and with it what the dead one published.
        tree.cli(["build"]).run().ok();
        let after = builder.ready_after(&before);
        assert_eq!(before["life"], after["life"], "{name}");
        assert_ne!(before["start_time"], after["start_time"], "{name}: {before} {after}");
    }
}

fn ready_file_of_a_dead_daemon_is_not_believed() {
    let builder = Builder::set_up(&[]);
    let start = ready(&builder)["start_time"].to_string();
    // What a daemon-init that is gone would have left: all right but for the process that it names.
    let forge = format!(
        "cd /run/trampoline/daemon && text=$(cat ready.json) && \
         printf '%s' \"${{text%%{start}*}}1{start}${{text#*{start}}}\" >new && mv new ready.json"
    );
    as_root(&builder, &forge).ok();
    // What all that waits for a daemon goes by; a cluster's own note of it comes a moment later.
    let status = as_root(&builder, "/opt/trampoline/bin/user-init status").ok().json();
    assert!(status["agents"].is_array() && status["ready"].is_null(), "{status}");
}

fn hostile_user_cannot_touch_what_others_publish() {
    let builder = shared::builder();
    let run = "/run/trampoline";
    for line in [
        format!("rm -f {run}/daemon/ready.json"),
        format!("echo forged > {run}/daemon/ready.json"),
        format!("echo forged > {run}/daemon/.new"),
        format!("ln -s /etc/shadow {run}/daemon/status.json.tmp"),
        format!("ln -s /etc/shadow {run}/planted"),
        format!("mkdir {run}/planted"),
        format!("mv {run}/daemon {run}/away"),
        format!("echo forged > {run}/maintenance/store.json"),
        format!("echo forged > {run}/shutdown-monitor/stop.json"),
        "echo planted > /nix/store/planted".to_owned(),
        "ls /nix/.trampoline".to_owned(),
        "kill -9 1".to_owned(),
        "for p in /proc/[0-9]*; do [ \"$(cat $p/comm)\" = daemon-init ] && kill -9 ${p#/proc/}; done"
            .to_owned(),
    ] {
        let output = builder.shell(&line);
        assert_ne!(output.code, 0, "{output}");
    }
    assert_eq!(builder.state(), "running");
    let left = as_root(builder, "ls -a /run/trampoline /run/trampoline/daemon").ok();
    assert!(!left.stdout.contains("planted") && !left.stdout.contains(".new"), "{left}");
}

fn fork_bomb_of_the_user_leaves_the_daemon_building() {
    let builder = Builder::set_up(&[("user.max-processes", "128")]);
    let tree = builder.pushed("bomb", &[("default.nix", &*quick("t-bomb", "built"))]);
    let bomb = tree.shell("n=0; while [ $n -lt 2000 ]; do sleep 8 & n=$((n+1)); done; echo no limit");
    assert!(!bomb.stdout.contains("no limit"), "{bomb}");
    // Its children still sleep.
    let build = format!(
        "export NIX_REMOTE=daemon HOME=/tmp; nix-build --no-out-link -E '{}'",
        quick("t-meanwhile", "meanwhile").replace('\n', " ")
    );
    as_root(&builder, &build).ok();
}
