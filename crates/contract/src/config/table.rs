//! The table of all options, in the order of the file.

use super::check::Text;
use super::option::{Effect, Kind, Opt, Reader, field};
use super::units::Size;

const DAY: u64 = 24 * 3600;
const YEAR: u64 = 365 * DAY;

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its header, e.g. `builder.daemon`.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
}

impl Table {
    /// Its options.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> {
        let name = self.name;
        options().filter(move |option| option.table == name)
    }

    /// When a change counts, for most of its options.
    #[must_use]
    pub fn effect(&self) -> Effect {
        let count = |effect: &Effect| self.options().filter(|option| option.effect == *effect).count();
        [Effect::Live, Effect::Restart, Effect::Setup].into_iter().max_by_key(count).unwrap_or(Effect::Setup)
    }
}

/// All tables but `[daemon.nix]`, which is an option itself.
pub static TABLES: &[Table] = &[
    Table { name: "builder", doc: "The pod, its image and its volumes." },
    Table {
        name: "builder.daemon",
        doc: "Resources of the daemon container, in which everything is built. `setup` lowers a default that \
              the machine cannot meet and says so; a value given here that cannot be met is refused.",
    },
    Table {
        name: "builder.user",
        doc: "Resources of the user container: evaluation, shells and sshd. Lowered and refused like those \
              of the daemon container.",
    },
    Table { name: "builder.maintenance", doc: "Resources of the maintenance container." },
    Table { name: "builder.shutdown-monitor", doc: "Resources of the container that stops an idle builder." },
    Table { name: "daemon", doc: "The store and its nix-daemon." },
    Table { name: "user", doc: "Who may come in, and what is kept for them." },
    Table { name: "shutdown", doc: "When the builder stops." },
    Table { name: "maintenance", doc: "What keeps the store small." },
    Table { name: "log", doc: "What the agents in the builder write to their logs." },
];

/// The four options of a container's resources.
macro_rules! limits {
    ($table:literal, $field:ident, $least:expr) => {
        [
            Opt {
                table: $table,
                key: "memory",
                kind: Kind::Size($least),
                example: "",
                doc: "Most memory that the container may use.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.memory),
            },
            Opt {
                table: $table,
                key: "cpus",
                kind: Kind::Cpus,
                example: "",
                doc: "Most CPUs that the container may use.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.cpus),
            },
            Opt {
                table: $table,
                key: "memory-request",
                kind: Kind::Size(Size::mib(1)),
                example: "",
                doc: "Memory that a cluster sets aside for the container. Not above `memory`.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.memory_request),
            },
            Opt {
                table: $table,
                key: "cpu-request",
                kind: Kind::Cpus,
                example: "",
                doc: "CPUs that a cluster sets aside for the container. Not above `cpus`.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.cpu_request),
            },
        ]
    };
}

/// All options, in the order of [`TABLES`].
pub fn options() -> impl Iterator<Item = &'static Opt> {
    PARTS.iter().copied().flatten()
}

/// The option of this path, e.g. `builder.name`.
#[must_use]
pub fn option(path: &str) -> Option<&'static Opt> {
    let (table, key) = path.rsplit_once('.')?;
    options().find(|option| option.table == table && option.key == key)
}

static PARTS: &[&[Opt]] = &[
    &BUILDER,
    &BUILDER_DAEMON,
    &BUILDER_USER,
    &BUILDER_MAINTENANCE,
    &BUILDER_SHUTDOWN_MONITOR,
    &DAEMON,
    &USER,
    &SHUTDOWN,
    &MAINTENANCE,
    &LOG,
];

static BUILDER: [Opt; 8] = [
    Opt {
        table: "builder",
        key: "name",
        kind: Kind::Text(Text::Name),
        example: "\"my-builder\"",
        doc: "Names the pod, its volumes and the SSH alias. Builders of different names share nothing. Not set: \
              made from your user name.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.name),
    },
    Opt {
        table: "builder",
        key: "engine",
        kind: Kind::Word(&["podman", "kubernetes"]),
        example: "",
        doc: "What runs the pod.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.engine),
    },
    Opt {
        table: "builder",
        key: "image",
        kind: Kind::Text(Text::Image),
        example: "",
        doc: "Image of all containers of the pod. Where it is missing, `setup` pulls or builds it.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.image),
    },
    Opt {
        table: "builder",
        key: "system",
        kind: Kind::Text(Text::System),
        example: "\"x86_64-linux\"",
        doc: "The platform that the builder must be of, as Nix names it. Not set: that of the image.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.system),
    },
    Opt {
        table: "builder",
        key: "project",
        kind: Kind::Text(Text::Project),
        example: "\"my-project\"",
        doc: "Name under which this checkout is pushed. Not set: the name of its top folder.",
        readers: &[Reader::Client],
        effect: Effect::Live,
        field: field!(builder.project),
    },
    Opt {
        table: "builder",
        key: "ssh-port",
        kind: Kind::Int(1, 65535),
        example: "2222",
        doc: "Port of the builder's sshd on 127.0.0.1 of this machine. Not set: a free one, which is kept.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.ssh_port),
    },
    Opt {
        table: "builder",
        key: "store-size",
        kind: Kind::Size(Size::mib(256)),
        example: "",
        doc: "Size of the volume for the Nix store.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.store_size),
    },
    Opt {
        table: "builder",
        key: "home-size",
        kind: Kind::Size(Size::mib(64)),
        example: "",
        doc: "Size of the volume for pushed sources, logs of builds and the user's home.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.home_size),
    },
];

static BUILDER_DAEMON: [Opt; 4] = limits!("builder.daemon", daemon, Size::mib(512));
static BUILDER_USER: [Opt; 4] = limits!("builder.user", user, Size::mib(256));
static BUILDER_MAINTENANCE: [Opt; 4] = limits!("builder.maintenance", maintenance, Size::mib(16));
static BUILDER_SHUTDOWN_MONITOR: [Opt; 4] =
    limits!("builder.shutdown-monitor", shutdown_monitor, Size::mib(16));

static DAEMON: [Opt; 12] = [
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
        doc: "Threads that fill the volume from the image; 0: as many as the container has CPUs.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.copy_threads),
    },
    Opt {
        table: "daemon",
        key: "max-processes",
        kind: Kind::Int(64, 1_000_000),
        example: "",
        doc: "Most processes and threads that one build may have.",
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
        doc: "Keys that sign what these caches hold, besides Nix's own.",
        readers: &[Reader::Daemon],
        effect: Effect::Restart,
        field: field!(daemon.trusted_public_keys),
    },
    Opt {
        table: "daemon",
        key: "proxy",
        kind: Kind::Text(Text::Proxy),
        example: "\"http://proxy.example:3128\"",
        doc: "Proxy for http and https, of the daemon, of its builds that have the network, and of the user.",
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

static USER: [Opt; 4] = [
    Opt {
        table: "user",
        key: "authorized-keys",
        kind: Kind::List(Text::SshKey),
        example: "",
        doc: "Public keys that may log in, besides the one of whoever ran `setup`. All keys of a builder are one \
              trust domain.",
        readers: &[Reader::Client, Reader::User],
        effect: Effect::Live,
        field: field!(user.authorized_keys),
    },
    Opt {
        table: "user",
        key: "keep-jobs",
        kind: Kind::Int(1, 10_000),
        example: "",
        doc: "Finished builds whose log is kept and whose result no collection deletes.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(user.keep_jobs),
    },
    Opt {
        table: "user",
        key: "keep-generations",
        kind: Kind::Int(1, 1000),
        example: "",
        doc: "Pushed trees that are kept of each project, the current one included. One in which a build runs or \
              a shell stands is kept in any case.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(user.keep_generations),
    },
    Opt {
        table: "user",
        key: "max-processes",
        kind: Kind::Int(64, 1_000_000),
        example: "",
        doc: "Most processes and threads that the user may have.",
        readers: &[Reader::User],
        effect: Effect::Restart,
        field: field!(user.max_processes),
    },
];

static SHUTDOWN: [Opt; 2] = [
    Opt {
        table: "shutdown",
        key: "idle-timeout",
        kind: Kind::DurationOrNever(1, YEAR),
        example: "",
        doc: "The builder stops after so long without a build, a session or a transfer. The next command that \
              needs it starts it again.",
        readers: &[Reader::ShutdownMonitor],
        effect: Effect::Live,
        field: field!(shutdown.idle_timeout),
    },
    Opt {
        table: "shutdown",
        key: "grace",
        kind: Kind::Duration(30, 7 * DAY),
        example: "",
        doc: "When somebody else stops the pod, running builds get so long to end.",
        readers: &[Reader::Client, Reader::Daemon, Reader::User],
        effect: Effect::Setup,
        field: field!(shutdown.grace),
    },
];

static MAINTENANCE: [Opt; 3] = [
    Opt {
        table: "maintenance",
        key: "interval",
        kind: Kind::DurationOrNever(60, YEAR),
        example: "",
        doc: "Time between two garbage collections. With \"never\", only `trampoline-cli maintenance` collects.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.interval),
    },
    Opt {
        table: "maintenance",
        key: "optimise",
        kind: Kind::Bool,
        example: "",
        doc: "Link identical files of the store to each other after a collection.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.optimise),
    },
    Opt {
        table: "maintenance",
        key: "delete-older-than",
        kind: Kind::DurationOrNever(3600, 100 * YEAR),
        example: "",
        doc: "Delete old generations of the user's profiles that are older, so that a collection can free what they \
              hold.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.delete_older_than),
    },
];

static LOG: [Opt; 2] = [
    Opt {
        table: "log",
        key: "level",
        kind: Kind::Word(&["error", "warn", "info", "debug", "trace"]),
        example: "",
        doc: "The least important lines that are written.",
        readers: Reader::AGENTS,
        effect: Effect::Restart,
        field: field!(log.level),
    },
    Opt {
        table: "log",
        key: "format",
        kind: Kind::Word(&["text", "json"]),
        example: "",
        doc: "Lines for people, or one JSON object a line.",
        readers: Reader::AGENTS,
        effect: Effect::Restart,
        field: field!(log.format),
    },
];
