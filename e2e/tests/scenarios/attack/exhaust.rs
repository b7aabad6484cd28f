//! A user can use up their own builder. Afterwards it must work again.

use e2e::builder::Builder;
use e2e::nix_files::{derivation, quick, slow};
use e2e::processes::PARENT;
use serde_json::Value;

use super::as_root;

crate::scenarios! {
    Any: [
        builder_whose_builds_fork_without_end_builds_again,
        what_a_build_leaves_running_is_ended,
        builds_that_fill_their_volume_leave_the_store_its_room,
        store_that_is_full_can_be_collected,
        store_without_inodes_can_be_collected,
    ],
    Root: [
        builder_whose_memory_is_used_up_builds_again,
    ],
}

/// The next build works.
fn builds(builder: &Builder, name: &str) {
    let tree = builder.pushed(name, &[("default.nix", &*quick(&format!("t-{name}"), "built"))]);
    let built = tree.cli(["build"]).run().ok();
    assert_eq!(builder.shell(&format!("cat {}", built.text())).ok().text(), "built");
}

/// Grows until it is stopped, in a shell that has nothing but what is built into it.
const GROW: &str = "x=xxxxxxxxxxxxxxxx; while :; do x=$x$x; done";
/// Forks until it is stopped.
const FORK: &str = "f() { f & f & wait; }; f";

fn builder_whose_builds_fork_without_end_builds_again() {
    // More than all roots of a rootless podman's containers, whom the kernel counts together.
    let builder = Builder::set_up(&[("daemon.max-processes", "600"), ("daemon.nix.timeout", "10")]);
    let tree = builder.pushed("fork", &[("default.nix", &*derivation("t-fork", FORK))]);
    let mut bomb = tree.cli(["build"]).start();
    bomb.line("t-fork");
    // Others build meanwhile, where root is root: in a user namespace the kernel holds it to the limit that its builds have used up.
    let ids = as_root(&builder, "cat /proc/self/uid_map").text().to_owned();
    if ids.split_whitespace().eq(["0", "0", "4294967295"]) {
        builds(&builder, "beside");
    }
    assert_ne!(bomb.output().code, 0);
    builds(&builder, "after");
    let left =
        as_root(&builder, "for p in /proc/[0-9]*; do [ $(stat -c %u $p) -lt 30001 ] || echo $p; done; true");
    let left: Vec<&str> = left.stdout.lines().collect();
    assert!(left.len() < 8, "processes of builds: {left:?}");
}

fn builder_whose_memory_is_used_up_builds_again() {
    let builder = Builder::set_up(&[
        ("builder.daemon.memory", "\"1Gi\""),
        ("builder.daemon.memory-request", "\"64Mi\""),
        ("builder.user.memory", "\"512Mi\""),
    ]);
    let tree = builder.pushed("grow", &[("default.nix", &*derivation("t-grow", GROW))]);
    let grown = tree.cli(["build"]).run();
    assert_ne!(grown.code, 0, "{grown}");
    // How much there was, how much was used and what to change.
    assert!(
        grown.stderr.contains("of the daemon container ended for lack of memory (limit 1Gi, peak 1Gi)"),
        "{grown}"
    );
    assert!(grown.stderr.contains("raise `memory` under [builder.daemon]"), "{grown}");
    // A cluster is told a moment later.
    let pod = as_root(&builder, "/opt/trampoline/bin/user-init status").ok().json();
    assert!(pod["memory"]["kills"].as_u64() > Some(0), "{pod}");
    builds(&builder, "after-a-build");
    // An evaluation that grows is the user's.
    let grow = "builtins.foldl' (text: _: text + text) \"xxxxxxxxxxxxxxxx\" (builtins.genList (n: n) 60)";
    let grown = builder.pushed("evaluate", &[("default.nix", grow)]).cli(["build"]).run();
    assert_ne!(grown.code, 0, "{grown}");
    assert!(grown.stderr.contains("of the user container ended for lack of memory (limit 512Mi"), "{grown}");
    assert!(grown.stderr.contains("raise `memory` under [builder.user]"), "{grown}");
    let grown = builder.shell(GROW);
    assert_ne!(grown.code, 0, "{grown}");
    builds(&builder, "after-the-user");
    assert_eq!(builder.broken(), "");
}

/// A shell line that prints the processes of builds.
const OF_BUILDS: &str =
    "for p in /proc/[0-9]*; do case $(stat -c %u $p 2>/dev/null) in 300??) echo ${p#/proc/};; esac; done";

/// Nix ends what a build has started, unless its own worker is killed.
fn what_a_build_leaves_running_is_ended() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("left", &[("default.nix", &*slow("t-left", 3600))]);
    let mut build = tree.cli(["build"]).start();
    build.line("begun");
    let kill = format!(
        "for p in $({OF_BUILDS}); do {PARENT}; \
         case $(cat /proc/$parent/comm) in nix-daemon*) kill -9 $parent; echo killed;; esac; done"
    );
    assert!(as_root(&builder, &kill).text().contains("killed"), "a worker of nix-daemon runs it");
    assert_ne!(build.output().code, 0);
    let gone = format!("n=0; while [ -n \"$({OF_BUILDS})\" ]; do n=$((n+1)); [ $n -lt 500 ] || exit 1; done");
    as_root(&builder, &gone).ok();
    let log = builder.cli(["logs", "daemon"]).run().ok();
    assert!(
        log.stdout.contains("that builds had left running")
            || log.stderr.contains("that builds had left running"),
        "{log}"
    );
    builds(&builder, "after-what-was-left");
}

/// No space is an error of the build, and of nobody else.
fn builds_that_fill_their_volume_leave_the_store_its_room() {
    let builder = Builder::with_small("build", "size=64m", &[]);
    builder.cli(["setup", "--yes"]).run().ok();
    let fill = "while echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; do :; done >fill || echo full; exit 1";
    let tree = builder.pushed("fill", &[("default.nix", &*derivation("t-fill", fill))]);
    let full = tree.cli(["build"]).run();
    assert!(full.code != 0 && full.stderr.contains("o space left"), "{full}");
    let enforced = |status: &Value| status["pod"]["build_dir"]["enforced"] == true;
    let status = builder.status_where(enforced);
    assert!(enforced(&status), "{status}");
    builds(&builder, "after-full");
    // What a start leaves there is gone with the next one.
    as_root(&builder, "head -c 60000000 /dev/zero >/trampoline/build/now/left").ok();
    builder.cli(["down", "--now"]).run().ok();
    builder.cli(["up"]).run().ok();
    builds(&builder, "after-a-restart");
    as_root(
        &builder,
        "n=0; while [ -e /trampoline/build/before-0 ]; do n=$((n+1)); [ $n -lt 100000 ] || exit 1; done",
    )
    .ok();
}

/// Fills the store until nothing more can be added, and then collects.
fn filled(options: &str, fill: &str) {
    let builder = Builder::with_small("store", options, &[]);
    builder.cli(["setup", "--yes"]).run().ok();
    let full = builder
        .shell(&format!("cd ~; n=0; while {fill}; do n=$((n+1)); [ $n -lt 5000 ] || break; done; echo $n"));
    let added: u32 = full.text().parse().unwrap_or_else(|_| panic!("no number in {full}"));
    assert!((2..5000).contains(&added), "it is full at some time: {full}");
    let words = full.stderr.to_lowercase();
    assert!(words.contains("no space") || words.contains("full"), "{full}");
    // Also through a restart.
    builder.cli(["down", "--now"]).run().ok();
    builder.cli(["up"]).run().ok();
    builder.cli(["maintenance"]).run().ok();
    builds(&builder, "after");
    assert_eq!(builder.broken(), "");
}

fn store_that_is_full_can_be_collected() {
    filled("size=700m", "{ echo $n; head -c 20M /dev/zero; } >t-fill && nix-store --add t-fill >/dev/null");
}

fn store_without_inodes_can_be_collected() {
    let many = "rm -rf t-fill; mkdir t-fill; k=0; while [ $k -lt 500 ]; do echo $n $k >t-fill/$k; k=$((k+1)); done; \
                nix-store --add t-fill >/dev/null";
    filled("size=1g,nr_inodes=25k", many);
}
