//! A pod with users of its own and no privilege on its node: it builds as the other does, and what it lacks is named.

use e2e::builder::Builder;
use e2e::cluster::{self, Namespace};
use e2e::nix_files::{derivation, quick};
use e2e::output::Output;
use e2e::person::Person;

use serde_json::json;

use super::{made_by_kubectl, pod};

crate::scenarios! {
    Cluster: [
        one_volume_goes_from_mode_to_mode,
        overlay_alone_makes_a_builder_that_baseline_admits,
        each_missing_capability_is_named,
        what_else_the_pod_lacks_is_named,
        what_is_not_on_the_node_is_named,
    ],
}

pub(super) const USERNS: (&str, &str) = ("daemon.isolation", "\"userns\"");
pub(super) const CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"];

/// A patch of the daemon container's security context.
pub(super) fn security(fields: &str) -> String {
    format!("[{{ name = \"daemon\", securityContext = {{ {fields} }} }}]")
}

/// Pod option with that patch.
const CONTAINERS: &str = "kubernetes.pod-patch.spec.containers";

/// A build, and what it sees. A sandbox that cannot be had would be an error.
pub(super) fn builds_sandboxed(builder: &Builder, name: &str) {
    let script = "{ while read device rest; do case $device in *:) echo device $device;; esac; done </proc/net/dev; \
                  for place in /run/trampoline /home/nix /opt/trampoline /nix/.trampoline; do \
                    if [ -e $place ]; then echo sees $place; fi; done; } > $out";
    let tree = builder.pushed(name, &[("default.nix", &*derivation(name, script))]);
    tree.cli(["build"]).run().ok();
    let seen = tree.shell("cat result").ok();
    let devices: Vec<&str> = seen.text().lines().filter(|line| line.starts_with("device")).collect();
    assert_eq!(devices, ["device lo:"], "{seen}");
    assert!(!seen.text().contains("sees"), "{seen}");
}

/// What a container's processes may do, from the line of `/proc/1/status` that begins with this.
pub(super) fn status_line(builder: &Builder, container: &str, key: &str) -> String {
    let said = cluster::exec(&pod(builder), container, &format!("grep ^{key} /proc/self/status")).ok();
    said.text().split_whitespace().last().unwrap_or_default().to_owned()
}

/// `setup` fails with this code, and these words.
pub(super) fn refused(builder: &Builder, code: i32, words: &[&str]) -> Output {
    let refused = builder.cli(["setup", "--yes"]).within(120).run().ended(code);
    for word in words {
        assert!(refused.stderr.contains(word), "no {word:?} in {refused}");
    }
    refused
}

fn one_volume_goes_from_mode_to_mode() {
    let privileged = ("daemon.isolation", "\"privileged\"");
    let builder = Builder::set_up(&[privileged]);
    let tree = builder.pushed("kept", &[("default.nix", &*quick("t-kept", "by root of the node"))]);
    tree.cli(["build"]).run().ok();
    for (mode, name) in [(USERNS, "t-mode-1"), (privileged, "t-mode-2"), (USERNS, "t-mode-3")] {
        builder.configure(&[mode]);
        builder.cli(["setup", "--yes", "--now"]).within(120).run().ok();
        let mapped = status_line(&builder, "daemon", "CapEff");
        // 5 of them, or all that there are.
        assert_eq!(mapped == "00000000000000cb", mode == USERNS, "{mapped}");
        builds_sandboxed(&builder, name);
        // It is a root in each.
        builder.shell("nix-store --gc").ok();
        assert_eq!(tree.shell("cat result").ok().text(), "by root of the node");
        assert_eq!(builder.broken(), "", "of the store in {mode:?}");
    }
}

fn overlay_alone_makes_a_builder_that_baseline_admits() {
    let namespace = Namespace::new(&json!({
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/enforce-version": "latest",
    }));
    let builder = made_by_kubectl(&namespace, "container/userns", &[USERNS]);
    builds_sandboxed(&builder, "t-baseline");
    builder.cli(["down"]).within(90).run().ok();
    builder.cli(["up"]).within(90).run().ok();
    builds_sandboxed(&builder, "t-baseline-again");
    builder.cli(["maintenance"]).within(90).run().ok();
    assert_eq!(builder.status()["isolation"], "userns");
}

fn each_missing_capability_is_named() {
    let builder = Builder::new(Person::new(), &[USERNS]);
    for missing in CAPABILITIES {
        let held: Vec<&str> = CAPABILITIES.into_iter().filter(|name| *name != missing).collect();
        let patch = security(&format!("capabilities = {{ add = {held:?} }}"));
        builder.configure(&[USERNS, (CONTAINERS, &patch)]);
        refused(&builder, 71, &[&format!("the daemon container lacks {missing}:")]);
    }
    builder.configure(&[USERNS]);
    builder.cli(["setup", "--yes"]).within(120).run().ok();
    builds_sandboxed(&builder, "t-all-five");
}

fn what_else_the_pod_lacks_is_named() {
    let builder = Builder::new(Person::new(), &[USERNS]);
    let masked = security("procMount = \"Default\"");
    let filtered = security("seccompProfile = { type = \"RuntimeDefault\" }");
    for (patch, words) in [
        (&masked, "needs `securityContext.procMount: Unmasked`"),
        (&filtered, "seccomp profile of the daemon container refuses `unshare`"),
    ] {
        builder.configure(&[USERNS, (CONTAINERS, patch)]);
        refused(&builder, 71, &[words]);
    }
    let only_prepare =
        "[{ name = \"prepare\", command = [\"/opt/trampoline/bin/daemon-init\", \"prepare\"] }]";
    builder.configure(&[USERNS, ("kubernetes.pod-patch.spec.initContainers", only_prepare)]);
    refused(&builder, 71, &["holds nothing instead of this image's store", "`daemon-init prepare --seed`"]);
    // Such as an old kubelet makes it, which knows nothing of `hostUsers`.
    builder.configure(&[USERNS, (CONTAINERS, &masked), ("kubernetes.pod-patch.spec.hostUsers", "true")]);
    refused(&builder, 71, &["the pod needs `hostUsers: false`"]);
}

fn what_is_not_on_the_node_is_named() {
    let profile = ("daemon.seccomp", "\"localhost/profiles/t-is-not-there.json\"");
    let builder = Builder::new(Person::new(), &[USERNS, profile]);
    let refused = builder.cli(["setup", "--yes"]).within(120).run();
    assert_ne!(refused.code, 0, "{refused}");
    assert!(refused.stderr.contains("t-is-not-there.json"), "{refused}");
}
