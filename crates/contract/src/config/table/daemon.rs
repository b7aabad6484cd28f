//! The options of the store and its nix-daemon.

use super::DAY;
use crate::config::check::Text;
use crate::config::option::{Effect, Kind, Opt, Reader, Word, field};
use crate::config::types::{Durability, IsolationChoice};

pub(super) static DAEMON: [Opt; 18] = [
    Opt {
        table: "daemon",
        key: "isolation",
        kind: Kind::Word(IsolationChoice::NAMES),
        example: "",
        doc: "What keeps builds apart from the machine in a cluster: \"userns\", a user namespace of the pod's own, \
              without any privilege on the node, or \"privileged\", a privileged container. \"auto\": \"userns\" where the \
              nodes can do it. Under podman the container is privileged, and rootless podman is what gives it no \
              privilege on the machine. One volume serves both.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(daemon.isolation),
    },
    Opt {
        table: "daemon",
        key: "seccomp",
        kind: Kind::Text(Text::Seccomp),
        example: "",
        doc: "Seccomp profile of the daemon container in \"userns\": \"unset\" is that of the node, which must not be \
              the runtime's default; \"localhost/profiles/nix-trampoline.json\" is one that an administrator has put \
              on the nodes (docs/userns.md).",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(daemon.seccomp),
    },
    Opt {
        table: "daemon",
        key: "node-credentials",
        kind: Kind::Bool,
        example: "",
        doc: "Whether the pod may ask for the credentials that a cloud gives the machine (169.254.169.254): for caches that are \
              opened by them. Users, and builds that fetch, then can as well.",
        readers: &[Reader::Client, Reader::Daemon],
        effect: Effect::Setup,
        field: field!(daemon.node_credentials),
    },
    Opt {
        table: "daemon",
        key: "ready-timeout",
        kind: Kind::Duration(10, DAY),
        example: "",
        doc: "Time from the start of the pod until the daemon must answer, filling the volume included.",
        readers: &[
            Reader::Client,
            Reader::Daemon,
            Reader::User,
            Reader::Maintenance,
            Reader::ShutdownMonitor,
        ],
        effect: Effect::Restart,
        field: field!(daemon.ready_timeout),
    },
    Opt {
        table: "daemon",
        key: "copy-threads",
        kind: Kind::Int(0, 64),
        example: "",
        doc: "Threads that fill the volume from the image; 0: as many as are useful.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.copy_threads),
    },
    Opt {
        table: "daemon",
        key: "durability",
        kind: Kind::Word(Durability::NAMES),
        example: "",
        doc: "With \"checkpoints\" the store is made durable now and then; should the machine go down, the next start verifies \
              what came after the last one, and what is damaged is fetched or built again. With \"strict\" each path is on disk \
              before it counts (Nix's fsync-store-paths and sync-before-registering), which makes small ones several times slower, \
              more so beside neighbours who write a lot.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.durability),
    },
    Opt {
        table: "daemon",
        key: "checkpoint-interval",
        kind: Kind::Duration(1, DAY),
        example: "",
        doc: "Time from the first new path to the next checkpoint while somebody works. An idle builder takes one at once.",
        readers: &[Reader::Daemon],
        effect: Effect::Live,
        field: field!(daemon.checkpoint_interval),
    },
    Opt {
        table: "daemon",
        key: "max-processes",
        kind: Kind::Int(64, 1_000_000),
        example: "",
        doc: "Most processes and threads that one build may have; in a user namespace, all builds together.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.max_processes),
    },
    Opt {
        table: "daemon",
        key: "max-jobs",
        kind: Kind::Int(1, 1024),
        example: "4",
        doc: "Builds that run at once. Not set: from the CPUs and the memory of the daemon container.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.max_jobs),
    },
    Opt {
        table: "daemon",
        key: "cores",
        kind: Kind::Int(1, 1024),
        example: "4",
        doc: "CPUs that each build is told to use. Not set: from the CPUs and the memory of the daemon container.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.cores),
    },
    Opt {
        table: "daemon",
        key: "substituters",
        kind: Kind::List(Text::Substituter),
        example: "[\"https://cache.example\"]",
        doc: "Binary caches in place of Nix's own; an empty list: none. Not set: Nix's own.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.substituters),
    },
    Opt {
        table: "daemon",
        key: "extra-substituters",
        kind: Kind::List(Text::Substituter),
        example: "",
        doc: "Binary caches besides those.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.extra_substituters),
    },
    Opt {
        table: "daemon",
        key: "trusted-public-keys",
        kind: Kind::List(Text::TrustedKey),
        example: "",
        doc: "Keys that sign what these caches hold, besides Nix's own. `trampoline-cli keys` adds those of people.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.trusted_public_keys),
    },
    Opt {
        table: "daemon",
        key: "trusted-users",
        kind: Kind::List(Text::NixUser),
        example: "",
        doc: "Users whom the daemon trusts besides root. Each may bring in any path, signed by nobody, and set any \
              option of the daemon: that is as good as root in the daemon container, and where that one is \
              privileged, root on the node. `nix` is everybody who may log in. What `trampoline-cli keys` does \
              needs no such trust.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.trusted_users),
    },
    Opt {
        table: "daemon",
        key: "proxy",
        kind: Kind::Text(Text::Proxy),
        example: "\"http://proxy.example:3128\"",
        doc: "Proxy for http and https, of the daemon, of its builds that have the network, and of the user. \
              One that asks for a password is reached by way of a forwarder that asks for none.",
        readers: &[Reader::Daemon, Reader::User],
        effect: Effect::Restart,
        field: field!(daemon.proxy),
    },
    Opt {
        table: "daemon",
        key: "no-proxy",
        kind: Kind::List(Text::NoProxy),
        example: "",
        doc: "Hosts, domains and addresses that are reached without the proxy.",
        readers: &[Reader::Daemon, Reader::User],
        effect: Effect::Restart,
        field: field!(daemon.no_proxy),
    },
    Opt {
        table: "daemon",
        key: "ca-bundle",
        kind: Kind::Text(Text::Path),
        example: "\"corporate-ca.pem\"",
        doc: "PEM file with the certificates to trust in place of the image's, on this machine, relative to the \
              folder of this file. `setup` ships it to the daemon and the user.",
        readers: &[Reader::Client, Reader::Daemon, Reader::User],
        effect: Effect::Setup,
        field: field!(daemon.ca_bundle),
    },
    Opt {
        table: "daemon",
        key: "nix",
        kind: Kind::NixSettings,
        example: "keep-outputs = true",
        doc: "Any further setting of nix.conf: a string, number or boolean, or a list of strings, which is joined \
              by spaces.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.nix),
    },
];
