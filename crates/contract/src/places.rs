//! Paths, ids and names that more than one program relies on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Root of the chroot store that the store volume forms in the daemon container: Nix reads
/// `local?root=/trampoline/volume` as the store below [`VOLUME`].
pub const VOLUME_ROOT: &str = "/trampoline/volume";
/// Where the daemon container mounts the store volume. The volume's own root is what other
/// containers see as `/nix`, because podman 4.3 ignores `subPath`.
pub const VOLUME: &str = "/trampoline/volume/nix";
/// The volume's folder that is ours: mark, lock, staging, leftovers. Mode 0700, owned by root.
pub const MARK_DIR: &str = ".trampoline";
/// Where every program of the store expects it.
pub const NIX: &str = "/nix";
/// The daemon's socket, below the bind mount.
pub const DAEMON_SOCKET: &str = "/nix/var/nix/daemon-socket/socket";
/// The profile through which the image's own programs are found.
pub const DEFAULT_PROFILE: &str = "/nix/var/nix/profiles/default";

/// Everything of ours in the image, outside `/nix`, which the volume covers.
pub const IMAGE_DIR: &str = "/opt/trampoline";
/// The agents' static binaries, as the client runs them in a container.
pub const DAEMON_INIT: &str = "/opt/trampoline/bin/daemon-init";
/// See [`DAEMON_INIT`].
pub const USER_INIT: &str = "/opt/trampoline/bin/user-init";
/// See [`DAEMON_INIT`].
pub const MAINTENANCE_AGENT: &str = "/opt/trampoline/bin/maintenance-agent";
/// [`crate::image::ImageManifest`] as JSON, written when the image is built.
pub const IMAGE_MANIFEST: &str = "/opt/trampoline/image.json";
/// Output of `nix-store --dump-db` for the image's store, written when the image is built.
pub const IMAGE_REGISTRATION: &str = "/opt/trampoline/registration";
/// The nix.conf that all containers share; `/etc/nix/nix.conf` links here.
pub const IMAGE_NIX_CONF: &str = "/opt/trampoline/nix.conf";

/// Folder where the engine mounts the ConfigMap.
pub const CONFIG_DIR: &str = "/etc/trampoline/config";
/// The operator's file, below [`CONFIG_DIR`].
pub const CONFIG_FILE: &str = "/etc/trampoline/config/trampoline.toml";
/// The operator's certificates (`[daemon] ca-bundle`), shipped as a second key of the same ConfigMap.
pub const CA_BUNDLE: &str = "/etc/trampoline/config/ca-bundle.pem";

/// The run volume: in memory, empty at each start of the pod, one folder per writer.
pub const RUN: &str = "/run/trampoline";

/// Volume of the daemon container alone. Builds work in a folder of it; nothing in it outlives the daemon container.
pub const BUILD: &str = "/trampoline/build";

/// The unprivileged user's home: the home volume, at the same path in the daemon and user
/// containers, so that the daemon resolves `result` links (indirect GC roots) made there.
pub const HOME: &str = "/home/nix";
/// Pushed trees: `projects/PROJECT/GENERATION/`, below [`HOME`].
pub const PROJECTS: &str = "/home/nix/projects";
/// Jobs: `ID/{request.json,log,out,result,exit.json}`, below [`HOME`].
pub const JOBS: &str = "/home/nix/.local/state/trampoline/jobs";
/// Login name of [`USER_UID`].
pub const USER: &str = "nix";
/// The only user that is served.
pub const USER_UID: u32 = 1000;
/// Its group.
pub const USER_GID: u32 = 1000;
/// `maintenance-agent`. Ids just above 1000 are people on a rootful podman host; each agent has its own
/// because a process may read another's files through `/proc/PID/root` as soon as the ids are equal.
pub const MAINTENANCE_UID: u32 = 64101;
/// `shutdown-monitor`.
pub const MONITOR_UID: u32 = 64102;

/// Where clouds hand out the credentials of a machine to whoever asks from there.
pub const METADATA: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(169, 254, 169, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
];

/// Port of sshd inside the pod.
pub const SSH_PORT: u16 = 2222;

/// A container of the pod; its folder on the run volume has the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Container {
    /// `daemon-init`, root.
    Daemon,
    /// `user-init`.
    User,
    /// `maintenance-agent`.
    Maintenance,
    /// `shutdown-monitor`.
    ShutdownMonitor,
}

impl Container {
    /// All of them, in the order of the pod.
    pub const ALL: [Self; 4] = [Self::Daemon, Self::User, Self::Maintenance, Self::ShutdownMonitor];

    /// Name of the container in the pod.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "daemon",
            Self::User => "user",
            Self::Maintenance => "maintenance",
            Self::ShutdownMonitor => "shutdown-monitor",
        }
    }

    /// The binary it runs.
    #[must_use]
    pub fn agent(self) -> &'static str {
        match self {
            Self::Daemon => "daemon-init",
            Self::User => "user-init",
            Self::Maintenance => "maintenance-agent",
            Self::ShutdownMonitor => "shutdown-monitor",
        }
    }

    /// User and group id that it runs as, owner of its folder on the run volume.
    #[must_use]
    pub fn uid(self) -> u32 {
        match self {
            Self::Daemon => 0,
            Self::User => USER_UID,
            Self::Maintenance => MAINTENANCE_UID,
            Self::ShutdownMonitor => MONITOR_UID,
        }
    }

    /// Its folder on the run volume, writable by [`Self::uid`] alone.
    #[must_use]
    pub fn run_dir(self) -> String {
        format!("{RUN}/{}", self.name())
    }
}
