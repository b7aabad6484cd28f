//! The typed configuration with its defaults: what the programs see after everything has been checked.

use std::collections::BTreeMap;
use std::time::Duration;

use super::check::{SECCOMP_LOCALHOST, SECCOMP_UNSET};
use super::share::Share;
use super::units::Size;
use super::window::Window;

/// `[builder]`: the pod as the client makes it.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Builder {
    /// Absent: the client makes one from the user's name.
    pub name: Option<String>,
    /// What runs the pod.
    pub engine: Engine,
    /// Image of all four containers.
    pub image: String,
    /// Nix's name of the platform that the image must have. Absent: the image's own.
    pub system: Option<String>,
    /// Besides those that Nix finds itself.
    pub system_features: Vec<String>,
    /// Name under which a push of this checkout arrives. Absent: the name of its top folder.
    pub project: Option<String>,
    /// Port of sshd on the client's loopback address. Absent: a free one, kept from then on.
    pub ssh_port: Option<u16>,
    /// Of the claim for `/nix`.
    pub store_size: Size,
    /// Of the claim for the user's home.
    pub home_size: Size,
    /// Of the claim in which builds work.
    pub build_size: Size,
    /// Of the daemon container, in which everything is built.
    pub daemon: Limits,
    /// Of the user container: evaluation, shells, sshd.
    pub user: Limits,
    /// Of the maintenance container.
    pub maintenance: Limits,
    /// Of the shutdown-monitor container.
    pub shutdown_monitor: Limits,
}

/// What one container may use at most, and what the engine sets aside for it.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Limits {
    /// Limit.
    pub memory: Size,
    /// Limit, in CPUs.
    pub cpus: f64,
    /// Set aside.
    pub memory_request: Size,
    /// Set aside, in CPUs.
    pub cpu_request: f64,
}

/// What runs the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Engine {
    /// On this machine.
    Podman,
    /// In a cluster.
    Kubernetes,
}

/// `[kubernetes]`: what a cluster decides about the pod.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Kubernetes {
    /// Absent: the context's own.
    pub namespace: Option<String>,
    /// Of kubeconfig. Absent: its current one.
    pub context: Option<String>,
    /// Of both claims. Absent: the cluster's default.
    pub storage_class: Option<String>,
    /// Of both claims.
    pub access_mode: AccessMode,
    /// Labels that the node must have.
    pub node_selector: BTreeMap<String, String>,
    /// `Toleration`s.
    pub tolerations: Option<serde_json::Value>,
    /// An `Affinity`.
    pub affinity: Option<serde_json::Value>,
    /// Of the pod.
    pub priority_class: Option<String>,
    /// Of the pod.
    pub runtime_class: Option<String>,
    /// One that exists. Absent: one of our own.
    pub service_account: Option<String>,
    /// Names of secrets.
    pub pull_secrets: Vec<String>,
    /// Of all containers.
    pub image_pull_policy: PullPolicy,
    /// As which a device plugin offers `/dev/kvm`. Absent: there is none.
    pub kvm_resource: Option<String>,
    /// Of everything.
    pub labels: BTreeMap<String, String>,
    /// Of everything.
    pub annotations: BTreeMap<String, String>,
    /// Of all containers.
    pub env: BTreeMap<String, String>,
    /// Address by name.
    pub host_aliases: BTreeMap<String, String>,
    /// Absent: the cluster's default.
    pub dns_policy: Option<DnsPolicy>,
    /// A `PodDNSConfig`.
    pub dns: Option<serde_json::Value>,
    /// Ports that may be reached besides SSH, by number or name.
    pub open_ports: Vec<String>,
    /// What may be reached, as [`super::Config::reach`] reads it. Absent: all but the address of clouds' credentials.
    pub egress: Option<Vec<String>>,
    /// `Volume`s, each with where it is mounted.
    pub extra_volumes: Option<serde_json::Value>,
    /// A strategic merge patch of the `PodTemplateSpec`.
    pub pod_patch: Option<serde_json::Value>,
}

/// Who may mount a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(serde::Serialize))]
pub enum AccessMode {
    /// One node. Every class can.
    #[default]
    ReadWriteOnce,
    /// One pod: the cluster itself keeps a second one out.
    ReadWriteOncePod,
    /// Anybody; for classes that can nothing else.
    ReadWriteMany,
}

/// What `[daemon] isolation` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum IsolationChoice {
    /// What fits where the builder runs.
    #[default]
    Auto,
    /// See [`crate::handshake::Isolation::Userns`].
    Userns,
    /// See [`crate::handshake::Isolation::Privileged`].
    Privileged,
}

/// What `[daemon] durability` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum Durability {
    /// The store is made durable now and then.
    #[default]
    Checkpoints,
    /// Each path is on disk before it is valid.
    Strict,
}

/// When a node asks the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(serde::Serialize))]
pub enum PullPolicy {
    /// At every start.
    Always,
    /// Where the node does not have the image.
    #[default]
    IfNotPresent,
    /// Not at all: the image was loaded.
    Never,
}

/// Who resolves names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub enum DnsPolicy {
    /// The cluster, then the node.
    ClusterFirst,
    /// The same for a pod on the node's network.
    ClusterFirstWithHostNet,
    /// The node.
    Default,
    /// What `dns` says alone.
    None,
}

/// `[daemon]`: the store and nix-daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Daemon {
    /// What the daemon container, and with it each build, is kept apart by.
    pub isolation: IsolationChoice,
    /// Of the daemon container in a user namespace: `unset`, or `localhost/PATH`.
    pub seccomp: String,
    /// Whether the pod may ask for those of its machine.
    pub node_credentials: bool,
    /// From the start of the pod until the daemon answers, a first seeding included.
    pub ready_timeout: Duration,
    /// Threads that copy the image's store onto the volume; 0: as many as fit the CPU limit.
    pub copy_threads: u32,
    /// What a path's validity says of the disk.
    pub durability: Durability,
    /// From the first path that is new in the store to the next checkpoint, while somebody works.
    pub checkpoint_interval: Duration,
    /// `RLIMIT_NPROC` of what daemon-init starts; counts per build user.
    pub max_processes: u64,
    /// Builds at once. Absent: from the container's limits.
    pub max_jobs: Option<u32>,
    /// CPUs that each build is told to use. Absent: from the container's limits.
    pub cores: Option<u32>,
    /// In place of Nix's own. Absent: Nix's own.
    pub substituters: Option<Vec<String>>,
    /// Besides the above.
    pub extra_substituters: Vec<String>,
    /// Besides Nix's own.
    pub trusted_public_keys: Vec<String>,
    /// Users, and groups behind `@`, besides root. Each is as good as root there.
    pub trusted_users: Vec<String>,
    /// URL for http and https.
    pub proxy: Option<String>,
    /// Hosts that are reached without it.
    pub no_proxy: Vec<String>,
    /// PEM file on the client's machine, shipped to [`crate::places::CA_BUNDLE`].
    pub ca_bundle: Option<String>,
    /// Further settings of nix.conf.
    pub nix: BTreeMap<String, String>,
}

/// `[user]`: who may come in, and what is kept for them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct User {
    /// Public keys, as in `authorized_keys`, without options.
    pub authorized_keys: Vec<String>,
    /// Finished jobs of a project whose log and result are kept; as many without a result.
    pub keep_jobs: u32,
    /// None of them for longer. None: by their number alone.
    pub keep_jobs_for: Option<Duration>,
    /// More wait for their turn.
    pub max_running_jobs: u32,
    /// Pushed trees that are kept per project, the current one included.
    pub keep_generations: u32,
    /// `RLIMIT_NPROC` of what user-init starts.
    pub max_processes: u64,
}

/// `[shutdown]`: when the builder stops.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Shutdown {
    /// Without a build, job or session for so long. None: never by itself.
    pub idle_timeout: Option<Duration>,
    /// What running builds get when somebody else stops the pod.
    pub grace: Duration,
    /// For so long at most work keeps evictions away.
    pub max_lifetime: Duration,
    /// A connection of Nix's own protocol counts for so long while it is silent.
    pub protocol_timeout: Duration,
    /// Hours of the week in which the builder stays. See [`Self::window`].
    pub keep_up: Option<String>,
    /// Of these hours.
    pub time_zone: String,
}

impl Shutdown {
    /// The hours in which the builder stays.
    #[must_use]
    pub fn window(&self) -> Option<Window> {
        Window::new(self.keep_up.as_deref()?, &self.time_zone)
    }
}

/// `[maintenance]`: keeping the store small.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Maintenance {
    /// Between two collections. None: only when asked for.
    pub interval: Option<Duration>,
    /// In place of the interval. See [`super::Config::collections`].
    pub schedule: Option<String>,
    /// Link identical files after a collection.
    pub optimise: bool,
    /// Between two slices of the store that are read. None: only when asked for.
    pub verify: Option<Duration>,
    /// With less free than this it is collected at once.
    pub collect_below: Share,
    /// With less free than this nothing is taken that would build.
    pub refuse_below: Share,
    /// What came into the store within it is spared by every collection.
    pub grace_window: Duration,
    /// Older `result` links are no roots any more. None: all are, for ever.
    pub auto_roots_max_age: Option<Duration>,
    /// Profiles keep no generations from before. None: all of them.
    pub profiles_older_than: Option<Duration>,
}

/// `[log]`: what the agents write to their standard error.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Log {
    /// The least important line that is written.
    pub level: LogLevel,
    /// For people or for programs.
    pub format: LogFormat,
}

/// `[metrics]`: what monitoring reads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub struct Metrics {
    /// Where, as [`super::listen`] reads it. None: nowhere.
    pub listen: Option<String>,
}

/// See [`Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum LogLevel {
    /// What ends the agent.
    Error,
    /// What somebody should look at.
    Warn,
    /// What happens.
    Info,
    /// Why it happens.
    Debug,
    /// Everything.
    Trace,
}

/// See [`Log`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize), serde(rename_all = "kebab-case"))]
pub enum LogFormat {
    /// A line for people.
    Text,
    /// An object a line.
    Json,
}

impl Default for Builder {
    fn default() -> Self {
        Self {
            name: None,
            engine: Engine::Podman,
            image: concat!("localhost/nix-trampoline:", env!("CARGO_PKG_VERSION")).to_owned(),
            system: None,
            system_features: Vec::new(),
            project: None,
            ssh_port: None,
            store_size: Size::gib(10),
            // Sources, logs and caches of evaluation, not stores.
            home_size: Size::gib(5),
            // Sources and objects of a few large builds at once.
            build_size: Size::gib(20),
            daemon: Limits {
                memory: Size::gib(16),
                cpus: 8.0,
                memory_request: Size::gib(1),
                cpu_request: 0.5,
            },
            user: Limits {
                memory: Size::gib(8),
                cpus: 4.0,
                memory_request: Size::mib(64),
                cpu_request: 0.01,
            },
            // It asks the daemon, which does the work in its own container.
            maintenance: Limits {
                memory: Size::mib(128),
                cpus: 0.5,
                memory_request: Size::mib(64),
                cpu_request: 0.01,
            },
            shutdown_monitor: Limits {
                memory: Size::mib(64),
                cpus: 0.25,
                memory_request: Size::mib(64),
                cpu_request: 0.01,
            },
        }
    }
}

impl Default for Daemon {
    fn default() -> Self {
        Self {
            isolation: IsolationChoice::Auto,
            seccomp: SECCOMP_UNSET.to_owned(),
            node_credentials: false,
            ready_timeout: Duration::from_secs(600),
            copy_threads: 0,
            durability: Durability::Checkpoints,
            // As much work as may have to be verified, or done again, after a power cut; once is 1 to 2 s of a slow disk.
            checkpoint_interval: Duration::from_secs(300),
            max_processes: 8192,
            max_jobs: None,
            cores: None,
            substituters: None,
            extra_substituters: Vec::new(),
            trusted_public_keys: Vec::new(),
            trusted_users: Vec::new(),
            proxy: None,
            no_proxy: ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec(),
            ca_bundle: None,
            nix: BTreeMap::new(),
        }
    }
}

impl Daemon {
    /// Path of [`Self::seccomp`] below the kubelet's folder of profiles, if there is one.
    #[must_use]
    pub fn seccomp_profile(&self) -> Option<&str> {
        self.seccomp.strip_prefix(SECCOMP_LOCALHOST)
    }
}

impl Default for User {
    fn default() -> Self {
        Self {
            authorized_keys: Vec::new(),
            keep_jobs: 20,
            keep_jobs_for: Some(Duration::from_secs(30 * 24 * 3600)),
            // Each evaluates in a process of its own, which for all of nixpkgs takes gigabytes.
            max_running_jobs: 8,
            // The one before stays for shells that still stand in it.
            keep_generations: 2,
            // On rootful podman the kernel counts a person of the host with the same id, too.
            max_processes: 4096,
        }
    }
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            idle_timeout: Some(Duration::from_secs(1800)),
            grace: Duration::from_secs(3600),
            // A node must become free in the end. The longest build that people are known to leave alone is one over
            // night.
            max_lifetime: Duration::from_secs(24 * 3600),
            // `nix build --store ssh-ng://` evaluates at home, and says nothing meanwhile.
            protocol_timeout: Duration::from_secs(2 * 3600),
            keep_up: None,
            time_zone: "UTC".to_owned(),
        }
    }
}

impl Default for Maintenance {
    fn default() -> Self {
        Self {
            interval: Some(Duration::from_secs(24 * 3600)),
            schedule: None,
            optimise: true,
            verify: Some(Duration::from_secs(24 * 3600)),
            collect_below: Share::Percent(15),
            refuse_below: Share::Percent(5),
            // Between two commands of somebody who evaluates, copies and then builds.
            grace_window: Duration::from_secs(3600),
            // Longer than anybody is away.
            auto_roots_max_age: Some(Duration::from_secs(60 * 24 * 3600)),
            profiles_older_than: Some(Duration::from_secs(30 * 24 * 3600)),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { level: LogLevel::Info, format: LogFormat::Text }
    }
}
