//! A store's volume that is full, in bytes or in inodes, and what the builder makes of it.

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::nix_client::NixClient;
use e2e::nix_files::{derivation, quick, slow};
use e2e::setting::setting;

use crate::ssh::block;

crate::scenarios! {
    Any: [
        full_volume_refuses_builds_until_something_goes,
        build_that_meets_the_end_of_the_volume_is_told_what_was_freed,
        volume_without_inodes_heals_by_itself,
    ],
    Root: [
        below_refuse_below_nothing_new_is_taken_and_what_runs_goes_on,
        below_collect_below_garbage_goes_at_once_and_builds_go_on,
    ],
}

/// A builder whose store lies on a file system of its own, which is collected as by default.
struct Small(Builder);

impl Small {
    fn new(options: &str) -> Self {
        let defaults = [
            ("maintenance.collect-below", "\"15%\""),
            ("maintenance.refuse-below", "\"5%\""),
            ("maintenance.grace-window", "\"1h\""),
        ];
        let builder = Builder::with_small("store", options, &defaults);
        builder.cli(["setup", "--yes"]).run().ok();
        Self(builder)
    }

    /// A number that `df` tells of the store's file system: `avail` is of free kilobytes, `iavail` of free inodes.
    fn free(&self, of: &str) -> u64 {
        let said = self.0.shell(&format!("df --output={of} /nix | tail -n 1")).ok();
        said.text().trim().parse().expect("a number")
    }

    /// Adds so many kilobytes, to which nothing refers.
    fn litter(&self, kilobytes: u64) -> String {
        self.add(kilobytes, "nix-store --add added")
    }

    /// Adds so many kilobytes, to which `held` in the home refers. By one connection: what nobody refers to in between may be collected.
    fn hold(&self, kilobytes: u64) -> String {
        let add = "nix --extra-experimental-features nix-command build --impure --out-link held --print-out-paths \
                   --expr '\"${builtins.path { path = /home/nix/added; name = \"added\"; }}\"'";
        self.add(kilobytes, add)
    }

    fn add(&self, kilobytes: u64, how: &str) -> String {
        let line = format!("set -e; cd; head -c {kilobytes}K /dev/urandom >added; {how}; rm added");
        self.0.shell(&line).ok().text().to_owned()
    }
}

fn full_volume_refuses_builds_until_something_goes() {
    let small = Small::new("size=700m");
    let builder = &small.0;
    let tree = builder.pushed("full", &[("default.nix", &*quick("t-full", "built"))]);
    // All but 20 MiB, which somebody holds.
    let held = small.hold(small.free("avail") - (20 << 10));
    tree.cli(["build"]).run().refused(Exit::NoRoom, "below `refuse-below` (5%)");
    builder.shell("echo a shell is there for a repair").ok();
    builder.says("builds are refused");
    builder.shell(&format!("[ -e {held} ] && rm ~/held")).ok();
    builder.cli(["maintenance", "--older-than", "0s"]).run().ok();
    assert!(small.free("avail") > 100 << 10, "what went from the roots is still there");
    tree.cli(["build"]).run().ok();
}

fn build_that_meets_the_end_of_the_volume_is_told_what_was_freed() {
    let small = Small::new("size=700m");
    let fill = "blob=0123456789abcdef; i=0; while [ $i -lt 16 ]; do blob=$blob$blob; i=$((i+1)); done; \
                while printf %s \"$blob\"; do :; done >$out; exit 1";
    let tree = small.0.pushed("fills", &[("default.nix", &*derivation("t-fills", fill))]);
    // Enough stays free for nothing to be collected before.
    let litter = small.litter(100 << 10);
    let built = tree.cli(["build"]).run();
    assert_ne!(built.code, 0, "{built}");
    assert!(built.stderr.contains("the disk was full, 100."), "{built}");
    small.0.shell(&format!("! [ -e {litter} ]")).ok();
}

fn volume_without_inodes_heals_by_itself() {
    let small = Small::new("size=1g,nr_inodes=40000");
    let builder = &small.0;
    let free = small.free("iavail");
    assert!((1000..100_000).contains(&free), "{free}");
    let files = format!(
        "mkdir many && cd many && for i in $(seq {free}); do : >$i; done && cd .. && nix-store --add many; code=$?; \
         rm -r many; exit $code"
    );
    let added = builder.shell(&files);
    assert_ne!(added.code, 0, "{added}");
    // What the end of that session sets off.
    builder.shell("while ! [ $(df --output=iavail /nix | tail -n 1) -gt 1000 ]; do :; done").ok();
    let tree = builder.pushed("after", &[("default.nix", &*quick("t-after", "built"))]);
    tree.cli(["build"]).run().ok();
    // What is kept for a volume that has none left is there again.
    let kept = "ls /nix/.trampoline/reserve | wc -l";
    assert_eq!(setting().engine.as_root(builder.name(), kept).ok().text(), "16");
}

/// More than any disk has.
const TOO_MUCH: &str = "\"1000Ti\"";

/// Into the builder as it runs.
fn apply(builder: &Builder, options: &[(&str, &str)]) {
    builder.configure(options);
    builder.cli(["config", "apply"]).run().ok();
}

fn below_refuse_below_nothing_new_is_taken_and_what_runs_goes_on() {
    let builder = Builder::set_up(&[]);
    let files = [("default.nix", &*slow("t-let-in", 12)), ("more.nix", &*quick("t-refused", "built"))];
    let tree = builder.pushed("refused", &files);
    let file = block(&builder);
    let nix = NixClient::beside(&tree);
    let path = nix.call(&tree, &file).args(["store", "add-file", "more.nix"]).run().ok().stdout;
    let host = format!("ssh-ng://{}", builder.name());
    let copy_to = |host: &str| nix.call(&tree, &file).args(["copy", "--to", host, path.trim()]).run();
    let copy = || copy_to(&host);
    let mut running = tree.cli(["build"]).start();
    running.line("begun ");

    apply(&builder, &[("maintenance.refuse-below", TOO_MUCH)]);
    tree.cli(["build", "-f", "more.nix"]).run().refused(Exit::NoRoom, "below `refuse-below` (1000Ti)");
    let jobs = builder.cli(["jobs", "--json"]).run().ok().json();
    assert!(jobs.as_array().is_some_and(|jobs| jobs.len() == 1), "the refused one is none: {jobs}");
    assert_eq!(jobs[0]["state"], "running", "it was let in before: {jobs}");
    let copied = copy();
    assert!(copied.code != 0 && copied.stderr.contains("below `refuse-below` (1000Ti)"), "{copied}");
    // However long its name is.
    let long =
        format!("{host}?remote-program=/nix/var/nix/profiles{}/default/bin/nix-daemon", "/.".repeat(50));
    assert_ne!(copy_to(&long).code, 0);
    builder.shell(&format!("[ ! -e {} ]", path.trim())).ok();
    builder.says("below `refuse-below` (1000Ti): builds are refused");
    let running = running.output().ok();
    assert!(running.stdout.starts_with("/nix/store/"), "{running}");

    apply(&builder, &[]);
    tree.cli(["build", "-f", "more.nix"]).run().ok();
    copy_to(&long).ok();
    builder.shell(&format!("[ -e {} ]", path.trim())).ok();
    let status = builder.status_where(|status| status["pod"]["store"]["short"].is_null());
    assert!(status["pod"]["store"]["short"].is_null(), "{status}");
}

fn below_collect_below_garbage_goes_at_once_and_builds_go_on() {
    // Nothing but the pressure is a reason.
    let never = ("maintenance.interval", "\"never\"");
    let builder = Builder::set_up(&[never]);
    let tree = builder.pushed("pressed", &[("default.nix", &*quick("t-pressed", "built"))]);
    let litter = builder.shell("echo litter >litter && nix-store --add litter").ok();
    builder.shell(&format!("[ -e {} ]", litter.text())).ok();
    apply(&builder, &[never, ("maintenance.collect-below", TOO_MUCH)]);
    let collected = |status: &serde_json::Value| status["pod"]["store"]["last_gc"]["cause"] == "pressure";
    let status = builder.status_where(collected);
    assert!(collected(&status), "{status}");
    builder.shell(&format!("[ ! -e {} ]", litter.text())).ok();
    builder.says("below `collect-below` (1000Ti)");
    tree.cli(["build"]).run().ok();
}
