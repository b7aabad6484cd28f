//! What a build and the user can reach.

use e2e::nix_files::derivation;

use crate::shared;

crate::scenarios! {
    Any: [
        build_sees_neither_network_nor_processes_nor_run_volume,
    ],
    Root: [
        user_cannot_switch_the_sandbox_off,
        every_agent_checks_a_configuration,
    ],
}

/// Writes down what it can see.
const PROBE: &str = "{ \
    read pid1 </proc/1/comm; echo pid1 $pid1; \
    for p in /proc/[0-9]*; do echo process; done; \
    while read name rest; do case $name in *:) echo device $name;; esac; done </proc/net/dev; \
    for place in /run/trampoline /home/nix /trampoline /opt/trampoline /etc/trampoline /nix/.trampoline; do \
      if [ -e $place ]; then echo sees $place; fi; \
    done; \
    echo end; } > $out";

fn assert_sandboxed(seen: &str) {
    let count = |word: &str| seen.lines().filter(|line| line.starts_with(word)).count();
    assert!(seen.ends_with("end"), "{seen}");
    assert!(count("process") <= 3, "processes of others: {seen}");
    assert!(!seen.contains("pid1 daemon-init") && !seen.contains("pause"), "the pod's first process: {seen}");
    assert_eq!((count("device"), count("device lo:")), (1, 1), "network devices: {seen}");
    assert_eq!(count("sees"), 0, "{seen}");
}

fn build_sees_neither_network_nor_processes_nor_run_volume() {
    let tree = shared::builder().pushed("probe", &[("default.nix", &*derivation("t-probe", PROBE))]);
    tree.cli(["build"]).run().ok();
    assert_sandboxed(tree.shell("cat result").ok().text());
}

fn user_cannot_switch_the_sandbox_off() {
    let tree = shared::builder().pushed("probe-off", &[("default.nix", &*derivation("t-probe-off", PROBE))]);
    // The daemon may refuse or ignore it.
    let built = tree.cli(["build", "--", "--option", "sandbox", "false"]).run();
    if built.code == 0 {
        assert_sandboxed(tree.shell("cat result").ok().text());
    }
    let hidden = derivation("t-no-chroot", PROBE).replace("args =", "__noChroot = true; args =");
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
