//! Why a builder does not start: one line with the cause, and what to do, soon after the cluster knows it.

use std::time::{Duration, Instant};

use e2e::builder::Builder;
use e2e::cluster::{self, Global, Namespace};
use e2e::person::Person;
use e2e::setting::setting;
use serde_json::json;

crate::scenarios! {
    Cluster: [
        no_node_has_what_it_reserves,
        no_node_may_take_it,
        image_that_no_node_can_get,
        claim_that_gets_no_volume,
        quota_that_is_used_up,
        pod_security_that_refuses_it,
        container_that_ends_again_and_again,
        corrected_template_replaces_a_pod_that_never_became_ready,
    ],
}

/// Ten seconds to explain it, and what `setup` takes to make all objects and to remove them again, on a busy machine.
const SOON: Duration = Duration::from_secs(40);
const NO_IMAGE: (&str, &str) = ("builder.image", "\"localhost/t-there-is-no-such-image:0\"");

/// `setup` fails soon: its error's first line names the cause in these words, and its hint what to do.
fn explained(builder: &Builder, cause: &[&str], hint: &str) {
    let began = Instant::now();
    let refused = builder.cli(["setup", "--yes"]).run();
    let took = began.elapsed();
    assert_ne!(refused.code, 0, "{refused}");
    let line = |start: &str| {
        let mut lines = refused.stderr.lines().filter_map(|line| line.strip_prefix(start));
        lines.next().unwrap_or_else(|| panic!("no line {start:?} in {refused}")).to_owned()
    };
    let (error, next) = (line("error: "), line("hint: "));
    for part in cause {
        assert!(error.contains(part), "no {part:?} in {error:?} of {refused}");
    }
    assert!(next.contains(hint), "no {hint:?} in {next:?} of {refused}");
    assert!(took < SOON, "after {took:?}: {refused}");
}

/// The same of a builder that was not there before: afterwards it is not there either.
fn explained_and_removed(options: &[(&str, &str)], cause: &[&str], hint: &str) {
    let builder = Builder::new(Person::new(), options);
    explained(&builder, cause, hint);
    assert_eq!(setting().engine.left(builder.name()), [""; 0]);
}

fn no_node_has_what_it_reserves() {
    let options = [("builder.daemon.cpus", "4000"), ("builder.daemon.cpu-request", "3000")];
    explained_and_removed(&options, &["no node can take", "Insufficient cpu"], "cpu-request");
}

fn no_node_may_take_it() {
    // A node without a kubelet is enough for the scheduler.
    let label = cluster::unique("label");
    let node = Global::new(
        "node",
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "labels": { "t-label": label } },
            "spec": { "taints": [{ "key": "t-taint", "value": "yes", "effect": "NoSchedule" }] },
        }),
    );
    let selector = format!("{{ \"t-label\" = \"{label}\" }}");
    let cause =
        ["no node can take", "untolerated taint", &format!("{} has t-taint=yes:NoSchedule", node.name())];
    explained_and_removed(&[("kubernetes.node-selector", &selector)], &cause, "tolerations");
    drop(node);
    let selector = "{ \"t-label\" = \"of-no-node\" }";
    explained_and_removed(
        &[("kubernetes.node-selector", selector)],
        &["no node can take", "node affinity/selector"],
        "node-selector",
    );
}

fn image_that_no_node_can_get() {
    explained_and_removed(
        &[NO_IMAGE],
        &["cannot get image localhost/t-there-is-no-such-image:0"],
        "image load",
    );
}

fn claim_that_gets_no_volume() {
    let class = "\"t-there-is-no-such-class\"";
    let cause = ["has no volume", "t-there-is-no-such-class"];
    explained_and_removed(&[("kubernetes.storage-class", class)], &cause, "storage-class");

    // A class whose provisioner is silent may only be slow: that is said, and waited for.
    let class = Global::new(
        "storageclass",
        json!({ "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "t-nobody/none" }),
    );
    let option = format!("{:?}", class.name());
    let builder = Builder::new(Person::new(), &[("kubernetes.storage-class", &option)]);
    let mut setup = builder.cli(["setup", "--yes"]).within(40).start();
    let said = setup.line("has no volume yet");
    assert!(said.contains(class.name()), "{said}");
    let status = builder.cli(["status"]).run().ok();
    assert!(status.stdout.contains("has no volume yet"), "{status}");
    drop(setup);
    // What the interrupted setup has left is found.
    builder.clean().ok();
    assert_eq!(setting().engine.left(builder.name()), [""; 0]);
}

fn quota_that_is_used_up() {
    let namespace = Namespace::new(&json!({}));
    namespace.kubectl(["create", "quota", "none", "--hard=pods=0"]).run().ok();
    // It refuses nothing before it has been counted once.
    cluster::wait_for(namespace.name(), "quota/none", ".status.hard.pods", "0");
    let builder = Builder::new(Person::new(), &[("kubernetes.namespace", &namespace.option())]);
    explained(&builder, &["does not admit the pod", "exceeded quota: none"], "kubectl describe quota");
}

fn pod_security_that_refuses_it() {
    let namespace = Namespace::new(&json!({ "pod-security.kubernetes.io/enforce": "restricted" }));
    let builder = Builder::new(Person::new(), &[("kubernetes.namespace", &namespace.option())]);
    let cause = ["does not admit the pod", "PodSecurity \"restricted"];
    explained(&builder, &cause, "pod-security.kubernetes.io/enforce=baseline");
}

/// A `user` container that says why and ends.
const CRASH: (&str, &str) = (
    "kubernetes.pod-patch.spec.containers",
    "[{ name = \"user\", command = [\"/opt/trampoline/bin/user-init\", \"--t-last-words\"] }]",
);

fn container_that_ends_again_and_again() {
    let builder = Builder::new(Person::new(), &[CRASH]);
    let refused = builder.cli(["setup", "--yes"]).run();
    let words = refused.stderr.clone();
    assert!(
        words.contains("the user container") && words.contains("ends again and again (exit code"),
        "{refused}"
    );
    assert!(words.contains("--t-last-words"), "its own words: {refused}");
    assert_eq!(setting().engine.left(builder.name()), [""; 0]);
}

fn corrected_template_replaces_a_pod_that_never_became_ready() {
    let builder = Builder::set_up(&[]);
    builder.shell("echo kept >~/kept").ok();
    for (wrong, cause) in [(NO_IMAGE, "cannot get image"), (CRASH, "the user container")] {
        builder.configure(&[wrong]);
        explained(&builder, &[cause], "");
        let status = builder.status();
        assert!(status["reason"].as_str().is_some_and(|reason| reason.contains(cause)), "{status}");
        builder.configure(&[]);
        builder.cli(["setup", "--yes"]).within(90).run().ok();
        assert_eq!(builder.shell("cat ~/kept").ok().text(), "kept");
    }
}
