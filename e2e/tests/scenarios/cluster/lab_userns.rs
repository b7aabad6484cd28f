//! What a node's administrator decides about pods without privilege: these change the node for all.

use std::path::PathBuf;

use e2e::builder::Builder;
use e2e::cluster::{self, Global, lab};
use e2e::person::Person;
use serde_json::json;

use super::isolation::{AUTO, chosen, enforcing, in_namespace};
use super::userns::{USERNS, builds_sandboxed, refused, status_line};

crate::scenarios! {
    Lab: [
        installed_profile_is_in_force_and_suffices,
        default_profile_of_the_node_is_named_and_the_installed_one_helps,
        volume_in_user_space_is_named,
        runtime_that_maps_no_users_is_named,
        auto_asks_the_handler_of_the_runtime_class,
    ],
}

const PROFILE: (&str, &str) = ("daemon.seccomp", "\"localhost/profiles/nix-trampoline.json\"");

fn install() {
    let profile = concat!(env!("CARGO_MANIFEST_DIR"), "/../container/seccomp/nix-trampoline.json");
    lab(&["seccomp-profile", profile]).ok();
}

fn installed_profile_is_in_force_and_suffices() {
    install();
    let builder = Builder::set_up(&[USERNS, PROFILE]);
    assert_eq!(status_line(&builder, "daemon", "Seccomp:"), "2", "a filter");
    builds_sandboxed(&builder, "t-profile");
}

/// Of all nodes, for as long as this is held.
struct SeccompDefault;

impl SeccompDefault {
    fn new() -> Self {
        lab(&["seccomp-default", "on"]).ok();
        Self
    }
}

impl Drop for SeccompDefault {
    fn drop(&mut self) {
        let off = lab(&["seccomp-default", "off"]);
        assert!(off.code == 0 || std::thread::panicking(), "{off}");
    }
}

fn default_profile_of_the_node_is_named_and_the_installed_one_helps() {
    install();
    let _default = SeccompDefault::new();
    let builder = Builder::new(Person::new(), &[USERNS]);
    refused(&builder, 71, &["seccomp profile of the daemon container refuses `unshare`", "seccompDefault"]);
    builder.configure(&[USERNS, PROFILE]);
    builder.cli(["setup", "--yes"]).within(120).run().ok();
    builds_sandboxed(&builder, "t-seccomp-default");
}

/// A folder of the first node that a program of its own serves.
struct InUserSpace(PathBuf);

impl InUserSpace {
    fn new() -> Self {
        let place = PathBuf::from("/tmp").join(cluster::unique("fuse"));
        let line = format!(
            "mkdir -p {0}/lower/store {0}/lower/home {0}/lower/build {0}/upper {0}/work {0}/merged && \
             fuse-overlayfs -o lowerdir={0}/lower,upperdir={0}/upper,workdir={0}/work {0}/merged",
            place.display()
        );
        cluster::on_node(&line).ok();
        Self(place)
    }

    fn volume(&self, class: &str, folder: &str) -> Global {
        Global::volume(Some(class), &self.0.join("merged").join(folder), "node-1")
    }
}

impl Drop for InUserSpace {
    fn drop(&mut self) {
        let _ = cluster::on_node(&format!("umount -l {0}/merged; rm -rf {0}", self.0.display()));
    }
}

fn volume_in_user_space_is_named() {
    let folder = InUserSpace::new();
    let class = cluster::unique("class");
    // For each claim of a builder.
    let _volumes = ["store", "home", "build"].map(|of| folder.volume(&class, of));
    let option = format!("{class:?}");
    let builder = Builder::new(Person::new(), &[USERNS, ("kubernetes.storage-class", &option)]);
    let refused = builder.cli(["setup", "--yes"]).within(120).run();
    assert_ne!(refused.code, 0, "{refused}");
    assert!(
        refused.stderr.contains("MOUNT_ATTR_IDMAP") && refused.stderr.contains("storage-class"),
        "{refused}"
    );
}

/// A class whose pods an old runc runs, on the second node alone. It is not called as its handler.
fn old_runtime() -> Global {
    Global::new(
        "runtimeclass",
        json!({
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {},
            "handler": "old-runc",
            "scheduling": { "nodeSelector": { "kubernetes.io/hostname": "node-2" } },
        }),
    )
}

fn runtime_that_maps_no_users_is_named() {
    let class = old_runtime();
    let option = format!("{:?}", class.name());
    let builder = Builder::new(Person::new(), &[USERNS, ("kubernetes.runtime-class", &option)]);
    let words = [
        "node node-2 cannot run the pod",
        "handler \"old-runc\" does not support user namespaces",
        "with runc 1.2 or crun 1.9",
        &format!("can name another than {}", class.name()),
        "`isolation = \"privileged\"` under [daemon]",
    ];
    refused(&builder, 71, &words);
    // What is to be done helps.
    builder.configure(&[USERNS]);
    builder.cli(["setup", "--yes"]).within(120).run().ok();
    builds_sandboxed(&builder, "t-new-runtime");
}

fn auto_asks_the_handler_of_the_runtime_class() {
    let class = old_runtime();
    let option = format!("{:?}", class.name());
    let of_class = ("kubernetes.runtime-class", &*option);
    let why = "(node-2: its container runtime (containerd:";
    let lack = "has no user namespaces for the runtime class of handler old-runc)";

    let namespace = enforcing("baseline");
    let builder = in_namespace(&namespace, &[AUTO, of_class]);
    refused(&builder, 71, &["has no place", why, lack, "runc 1.2 or crun 1.9", "privileged=true"]);

    let builder = Builder::new(Person::new(), &[AUTO]);
    let setup = builder.cli(["setup", "--dry-run"]).run().ok();
    assert!(chosen(&setup).contains("its nodes map users (node-1, node-2)"), "by default: {setup}");
    builder.configure(&[AUTO, of_class]);
    let setup = builder.cli(["setup", "--yes"]).within(120).run().ok();
    let line = chosen(&setup);
    assert!(line.contains("isolation: privileged") && line.contains(why) && line.contains(lack), "{line}");
    assert_eq!(builder.status()["isolation"], "privileged");
    builds_sandboxed(&builder, "t-old-runtime");
}
