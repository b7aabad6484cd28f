//! What keeps builds apart from the nodes, and which of it a cluster gets.

use e2e::builder::Builder;
use e2e::cluster::{self, Global, Namespace};
use e2e::nix_files::quick;
use e2e::output::Output;
use e2e::person::Person;
use e2e::setting::setting;
use serde_json::{Value, json};

crate::scenarios! {
    Cluster: [
        namespace_of_baseline_takes_a_builder_that_does_all,
        policies_admit_all_of_it_and_more_strictly_all_but_the_daemon,
        auto_asks_nodes_and_policies,
        auto_takes_no_privilege_that_is_refused,
        auto_does_without_the_nodes,
        builder_keeps_what_it_has_until_told,
    ],
}

pub(super) const AUTO: (&str, &str) = ("daemon.isolation", "\"auto\"");
const USERNS: (&str, &str) = ("daemon.isolation", "\"userns\"");
const PRIVILEGED: (&str, &str) = ("daemon.isolation", "\"privileged\"");

/// Of this level, in its newest version.
pub(super) fn enforcing(level: &str) -> Namespace {
    Namespace::new(&json!({
        "pod-security.kubernetes.io/enforce": level,
        "pod-security.kubernetes.io/enforce-version": "latest",
    }))
}

pub(super) fn in_namespace(namespace: &Namespace, options: &[(&str, &str)]) -> Builder {
    let option = namespace.option();
    Builder::new(Person::new(), &[&[("kubernetes.namespace", &*option)], options].concat())
}

/// What `setup` says that it has chosen.
pub(super) fn chosen(setup: &Output) -> &str {
    let line = setup.stderr.lines().find(|line| line.contains("isolation: "));
    line.unwrap_or_else(|| panic!("nothing is chosen: {setup}"))
}

fn namespace_of_baseline_takes_a_builder_that_does_all() {
    let namespace = enforcing("baseline");
    let builder = in_namespace(&namespace, &[AUTO]);
    let setup = builder.cli(["setup", "--yes"]).run().ok();
    assert!(chosen(&setup).contains("userns"), "{setup}");
    let status = builder.status();
    assert_eq!(status["isolation"], "userns", "{status}");
    assert!(builder.cli(["status"]).run().ok().stdout.contains("userns"));

    let script = "while read a b c; do echo ids $a $b $c; done </proc/self/uid_map; echo kept >kept; ls -l";
    let probe = e2e::nix_files::derivation("t-baseline", &format!("({script}) >$out"));
    let tree = builder.pushed("baseline", &[("default.nix", &*probe)]);
    let path = tree.cli(["build"]).run().ok();
    let seen = tree.shell("cat result").ok();
    // One id of its own, and not the pod's 65,536.
    assert!(seen.stdout.lines().any(|line| line.starts_with("ids ") && line.ends_with(" 1")), "{seen}");

    builder.cli(["down"]).run().ok();
    assert_eq!(builder.state(), "stopped");
    tree.shell("cat result").ok();
    let waste = builder.shell("echo waste >~/waste; nix-store --add ~/waste").ok();
    builder.cli(["maintenance"]).run().ok();
    builder.shell(&format!("test -e {} && ! test -e {}", path.text(), waste.text())).ok();
    let pod = format!("trampoline-{}-0", builder.name());
    let verify = "PATH=/nix/var/nix/profiles/default/bin; NIX_REMOTE= nix-store --verify --check-contents";
    namespace.kubectl(["exec", &pod, "-c", "daemon", "--", "/bin/sh", "-c", verify]).run().ok();
}

/// Asks for a pod as the administrator, of whom no object stands in the way; nothing is made.
fn admitted(namespace: &Namespace, pod: &Value) -> Output {
    let mut pod = pod.clone();
    // Their objects are not there.
    pod["metadata"] = json!({ "name": cluster::unique("pod") });
    pod["spec"].as_object_mut().expect("a pod").remove("serviceAccountName");
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    namespace.kubectl(["create", "--dry-run=server", "-f", "-"]).input(pod.to_string()).run()
}

fn without_daemon(pod: &Value) -> Value {
    let mut pod = pod.clone();
    pod["spec"]["containers"]
        .as_array_mut()
        .expect("containers")
        .retain(|container| container["name"] != "daemon");
    pod
}

fn policies_admit_all_of_it_and_more_strictly_all_but_the_daemon() {
    let (baseline, restricted) = (enforcing("baseline"), enforcing("restricted"));
    let pod = |isolation| {
        let builder = Builder::new(Person::new(), &[isolation]);
        builder.cli(["setup", "--dry-run", "--json"]).run().ok().json()["pod"].clone()
    };
    let userns = pod(USERNS);
    admitted(&baseline, &userns).ok();
    let refused = admitted(&baseline, &pod(PRIVILEGED));
    assert!(refused.code != 0 && refused.stderr.contains("securityContext.privileged=true"), "{refused}");

    let refused = admitted(&restricted, &userns);
    assert!(refused.code != 0 && refused.stderr.contains("PodSecurity"), "{refused}");
    for name in ["prepare", "user", "maintenance", "shutdown-monitor"] {
        assert!(!refused.stderr.contains(&format!("\"{name}\"")), "{name}: {refused}");
    }
    admitted(&restricted, &without_daemon(&userns)).ok();
    // Of a pod without a user namespace, root before the others is one too many.
    let refused = admitted(&restricted, &without_daemon(&pod(PRIVILEGED)));
    assert!(refused.code != 0 && refused.stderr.contains("\"prepare\""), "{refused}");
}

/// Lets a builder go to the one that follows.
const TOLERATED: (&str, &str) = ("kubernetes.tolerations", "[{ key = \"t-old\", operator = \"Exists\" }]");

/// A node without a kubelet, of a kind that maps no users, and an option that lets a builder go nowhere else.
fn old_node() -> (Global, String) {
    let label = cluster::unique("old");
    let node = json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": { "labels": { "t-old": label } },
        // Nobody else goes there.
        "spec": { "taints": [{ "key": "t-old", "effect": "NoSchedule" }] },
        "status": { "nodeInfo": {
            "kubeletVersion": "v1.32.1", "containerRuntimeVersion": "containerd://1.6.20", "architecture": "",
            "bootID": "", "kernelVersion": "", "kubeProxyVersion": "", "machineID": "", "operatingSystem": "",
            "osImage": "", "systemUUID": "",
        } },
    });
    (Global::new("node", node), format!("{{ \"t-old\" = \"{label}\" }}"))
}

fn auto_asks_nodes_and_policies() {
    let (node, selector) = old_node();
    let builder = Builder::new(Person::new(), &[AUTO, TOLERATED, ("kubernetes.node-selector", &selector)]);
    let shown = builder.cli(["setup", "--dry-run"]).run().ok();
    assert!(shown.stdout.contains("privileged: true"), "{shown}");
    let line = chosen(&shown);
    assert!(line.contains("isolation: privileged") && line.contains("v1.32.1"), "{line}");
    assert!(line.contains(node.name()), "{line}");
    builder.configure(&[AUTO]);
    let shown = builder.cli(["setup", "--dry-run"]).run().ok();
    assert!(shown.stdout.contains("hostUsers: false"), "{shown}");
    assert!(chosen(&shown).contains("its nodes map users (node-1"), "{shown}");
}

fn auto_takes_no_privilege_that_is_refused() {
    let (node, selector) = old_node();
    let namespace = enforcing("baseline");
    let builder = in_namespace(&namespace, &[AUTO, TOLERATED, ("kubernetes.node-selector", &selector)]);
    let refused = builder.cli(["setup", "--yes"]).run().ended(71);
    for part in ["has no place", node.name(), "v1.32.1", "securityContext.privileged=true"] {
        assert!(refused.stderr.contains(part), "{part}: {refused}");
    }
    assert!(refused.stderr.contains("hint: "), "{refused}");
    // Before anything was made.
    let left = namespace.kubectl([
        "get",
        "statefulset,pvc,configmap,role",
        "-o",
        "name",
        "-l",
        "io.trampoline.builder",
    ]);
    assert_eq!(left.run().ok().text(), "");

    builder.configure(&[PRIVILEGED, ("kubernetes.namespace", &namespace.option())]);
    let refused = builder.cli(["setup", "--yes"]).run();
    assert!(refused.code != 0 && refused.stderr.contains("does not admit the pod"), "{refused}");
    assert!(refused.stderr.contains("`isolation = \"userns\"` under [daemon]"), "what to do: {refused}");
}

fn auto_does_without_the_nodes() {
    let namespace = enforcing("baseline");
    let builder = in_namespace(&namespace, &[AUTO]);
    let rules = super::access::rules(&namespace, &builder);
    let config = namespace.account("maker", &rules, &builder.person().home());
    let cli = |args: &[&str]| builder.cli(args.iter().copied()).env("KUBECONFIG", &config);
    let setup = cli(&["setup", "--yes"]).run().ok();
    let line = chosen(&setup);
    assert!(line.contains("isolation: userns") && line.contains("may not be listed"), "{line}");
    let tree = builder.checkout("maker", &[("default.nix", &*quick("t-maker", "built"))]);
    tree.cli(["push-tarball"]).env("KUBECONFIG", &config).run().ok();
    tree.cli(["build"]).env("KUBECONFIG", &config).run().ok();
}

fn builder_keeps_what_it_has_until_told() {
    let builder = Builder::set_up(&[PRIVILEGED]);
    let tree = builder.pushed("kept", &[("default.nix", &*quick("t-kept", "from the first"))]);
    let path = tree.cli(["build"]).run().ok();
    let is_there = |isolation: &str| {
        assert_eq!(builder.status()["isolation"], isolation);
        assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), "from the first");
        tree.cli(["build"]).run().ok();
    };
    is_there("privileged");
    let again = |option| {
        builder.configure(&[option]);
        builder.cli(["setup", "--yes"]).run().ok()
    };
    let kept = again(AUTO);
    assert!(chosen(&kept).contains("isolation: privileged"), "{kept}");
    assert!(!kept.stderr.contains("changes StatefulSet"), "{kept}");
    is_there("privileged");
    let changed = again(USERNS);
    assert!(changed.stderr.contains("hostUsers"), "what changes: {changed}");
    is_there("userns");
    let kept = again(AUTO);
    assert!(chosen(&kept).contains("isolation: userns"), "{kept}");
    is_there("userns");
    again(PRIVILEGED);
    is_there("privileged");
    assert_eq!(builder.broken(), "", "of the store");
    assert_eq!(setting().engine.pods(builder.name()), 1);
}
