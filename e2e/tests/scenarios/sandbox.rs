//! What a build and the user can reach.

use std::collections::BTreeSet;

use e2e::nix_files::derivation;
use e2e::output::Output;
use e2e::setting::setting;

use crate::shared;

crate::scenarios! {
    Any: [
        build_sees_neither_network_nor_processes_nor_run_volume,
        fixed_output_build_sees_the_network_and_nothing_else,
        build_has_namespaces_of_its_own,
        user_cannot_switch_the_sandbox_off,
    ],
    Root: [
        every_agent_checks_a_configuration,
    ],
}

/// Writes down what it can see, and what it can do.
const PROBE: &str = "{ \
    read pid1 </proc/1/comm; echo pid1 $pid1; \
    for p in /proc/[0-9]*; do echo process; done; \
    while read name rest; do case $name in *:) echo device $name;; esac; done </proc/net/dev; \
    while read a b c d e f; do echo ids $a $b $c; done </proc/self/uid_map; \
    for place in /run/trampoline /home /trampoline /opt /etc/trampoline /nix/.trampoline /nix/var \
                 /var/run/secrets /var /root /host /sys /nix/var/nix/daemon-socket/socket; do \
      if [ -e $place ]; then echo sees $place; fi; \
    done; \
    : >/nix/store/t-planted; \
    for place in /nix/store/.links/t-planted /etc/passwd /bin/sh /t-planted $input/x $input; do \
      if (: >>$place) 2>/dev/null; then echo writes $place; fi; \
    done; \
    for device in sda vda kmsg mem fuse net/tun; do if [ -e /dev/$device ]; then echo sees /dev/$device; fi; done; \
    while read key value rest; do case $key in CapEff:|CapBnd:|NoNewPrivs:|Seccomp:) echo $key $value;; esac; done </proc/self/status; \
    echo end; } > $out";

/// A derivation of the probe, which has a path of the store to try its hand at. With a hash it is a fixed-output one, which has
/// the pod's network; what it says then goes to its log, as the hash is wrong.
fn probe(name: &str, fixed: bool) -> String {
    let input = "input = builtins.toFile \"t-input\" \"x\"; args =";
    let text = derivation(name, PROBE).replacen("args =", input, 1);
    if !fixed {
        return text;
    }
    let hash = "outputHashMode = \"flat\"; outputHashAlgo = \"sha256\"; \
                outputHash = \"0000000000000000000000000000000000000000000000000000000000000000\"; args =";
    text.replacen("args =", hash, 1).replace("} > $out", "}")
}

fn count(seen: &str, word: &str) -> usize {
    seen.lines().filter(|line| line.starts_with(word)).count()
}

/// What holds for every build.
fn assert_closed_in(seen: &str) {
    assert!(seen.ends_with("end"), "{seen}");
    assert!(count(seen, "process") <= 3, "processes of others: {seen}");
    assert!(!seen.contains("pid1 daemon-init") && !seen.contains("pause"), "the pod's first process: {seen}");
    for word in ["sees", "writes"] {
        assert_eq!(count(seen, word), 0, "{seen}");
    }
    // One id, which is nobody's of the pod's.
    assert_eq!(count(seen, "ids "), 1, "a user namespace of its own: {seen}");
    assert!(seen.lines().any(|line| line.starts_with("ids ") && line.ends_with(" 1")), "{seen}");
    assert!(seen.contains("CapEff: 0000000000000000"), "{seen}");
    assert!(seen.contains("NoNewPrivs: 1") && seen.contains("Seccomp: 2"), "{seen}");
}

fn assert_sandboxed(seen: &str) {
    assert_closed_in(seen);
    assert_eq!((count(seen, "device"), count(seen, "device lo:")), (1, 1), "network devices: {seen}");
}

fn build_sees_neither_network_nor_processes_nor_run_volume() {
    let tree = shared::builder().pushed("probe", &[("default.nix", &*probe("t-probe", false))]);
    tree.cli(["build"]).run().ok();
    assert_sandboxed(tree.shell("cat result").ok().text());
    // It may write where outputs are made, which is no place of the store's.
    let planted = setting().engine.as_root(shared::builder().name(), "ls -d /nix/store/t-planted");
    assert_ne!(planted.code, 0, "{planted}");
}

fn fixed_output_build_sees_the_network_and_nothing_else() {
    let tree = shared::builder().pushed("probe-fixed", &[("default.nix", &*probe("t-probe-fixed", true))]);
    let built = tree.cli(["build"]).run();
    // It made no output, or one with another hash.
    assert_ne!(built.code, 0, "{built}");
    let prefix = "t-probe-fixed> ";
    let said: Vec<&str> =
        built.stderr.lines().map(|line| line.split_once(prefix).map_or(line, |(_, said)| said)).collect();
    let end = said.iter().position(|line| *line == "end").unwrap_or_else(|| panic!("no end in {built}"));
    let begin = said
        .iter()
        .position(|line| line.starts_with("pid1 "))
        .unwrap_or_else(|| panic!("no begin in {built}"));
    let seen = said[begin..=end].join("\n");
    assert_closed_in(&seen);
    assert!(count(&seen, "device") > 1, "it has the network: {seen}");
}

fn build_has_namespaces_of_its_own() {
    let builder = shared::builder();
    let kinds = "user pid mnt net ipc uts";
    // Either the sandbox's shell has it built in, or the image's tools run there.
    let script = format!(
        "for kind in {kinds}; do readlink /proc/self/ns/$kind || $tools/bin/readlink /proc/self/ns/$kind; done >$out"
    );
    let tools = builder.shell("readlink -f /nix/var/nix/profiles/default").ok();
    let tools = format!("tools = builtins.storePath \"{}\"; args =", tools.text());
    let text = derivation("t-namespaces", &script).replacen("args =", &tools, 1);
    let tree = builder.pushed("namespaces", &[("default.nix", &*text)]);
    tree.cli(["build"]).run().ok();
    let of = |output: Output| -> BTreeSet<String> { output.ok().stdout.lines().map(str::to_owned).collect() };
    let of_build = of(tree.shell("cat result"));
    let line = format!("for kind in {kinds}; do readlink /proc/self/ns/$kind; done");
    let of_daemon = of(setting().engine.as_root(builder.name(), &line));
    assert_eq!((of_build.len(), of_daemon.len()), (6, 6), "{of_build:?} {of_daemon:?}");
    assert!(of_build.is_disjoint(&of_daemon), "{of_build:?} {of_daemon:?}");
}

fn user_cannot_switch_the_sandbox_off() {
    let tree = shared::builder().pushed("probe-off", &[("default.nix", &*probe("t-probe-off", false))]);
    // The daemon may refuse or ignore it.
    let built = tree.cli(["build", "--", "--option", "sandbox", "false"]).run();
    if built.code == 0 {
        assert_sandboxed(tree.shell("cat result").ok().text());
    }
    let hidden = probe("t-no-chroot", false).replacen("args =", "__noChroot = true; args =", 1);
    let tree = shared::builder().pushed("no-chroot", &[("default.nix", &*hidden)]);
    let refused = tree.cli(["build"]).run();
    assert!(refused.code != 0 && refused.stderr.contains("__noChroot"), "{refused}");
}

fn every_agent_checks_a_configuration() {
    let builder = shared::builder();
    for agent in ["daemon-init", "user-init", "shutdown-monitor", "maintenance-agent"] {
        let check = format!("/opt/trampoline/bin/{agent} --check-config --config");
        builder
            .shell(&format!("printf 'log.level = \"debug\"\\n' >/tmp/good.toml; {check} /tmp/good.toml"))
            .ok();
        let bad = builder
            .shell(&format!("printf 'log.levle = \"debug\"\\n' >/tmp/bad.toml; {check} /tmp/bad.toml"));
        let bad = bad.ended(78);
        assert!(bad.stderr.contains("bad.toml:1") && bad.stderr.contains("level"), "{agent}: {bad}");
    }
}
