//! The files on the run volume through which containers speak to each other. Each is JSON, written
//! to a temporary name and renamed, in the writer's own folder, and void unless its `life` is the
//! pod's present one.

use serde::{Deserialize, Serialize};

use crate::damage::Damage;
use crate::exit::Exit;
use crate::keys::BuilderKeys;
use crate::places::Container;
use crate::resources::{BuildDir, Memory};

/// File names, each in the folder of its writer.
pub mod file {
    /// `daemon`: [`super::Ready`].
    pub const READY: &str = "ready.json";
    /// `daemon`: [`super::Drain`], from the first SIGTERM on.
    pub const DRAIN: &str = "drain.json";
    /// Every agent: [`super::AgentStatus`].
    pub const STATUS: &str = "status.json";
    /// Every agent: number of failures in a row, for the pause before the next exit.
    pub const FAILURES: &str = "failures.json";
    /// `daemon`: [`super::DaemonActivity`]. `user`: [`super::UserActivity`].
    pub const ACTIVITY: &str = "activity.json";
    /// `shutdown-monitor`: [`super::StopRequest`].
    pub const STOP: &str = "stop.json";
    /// `daemon` and `user`: [`super::StopAck`].
    pub const ACK: &str = "ack.json";
    /// `shutdown-monitor`: [`super::IdleStatus`].
    pub const IDLE: &str = "idle.json";
    /// `daemon`: [`crate::keys::BuilderKeys`].
    pub const KEYS: &str = "keys.json";
    /// `daemon`: [`crate::resources::Memory`].
    pub const MEMORY: &str = "memory.json";
    /// `daemon`: [`crate::resources::BuildDir`].
    pub const BUILD_DIR: &str = "build-dir.json";
    /// `user`: [`super::DiskFull`].
    pub const DISK_FULL: &str = "disk-full.json";
    /// `maintenance`: [`super::StoreStatus`].
    pub const STORE: &str = "store.json";
    /// `user`: socket of user-init (sessions and jobs), for its own id alone. `daemon`: socket of daemon-init, for all agents (see
    /// [`crate::control`]).
    pub const CONTROL: &str = "control.sock";
    /// Store volume, below `MARK_DIR`: [`super::LastStop`].
    pub const LAST_STOP: &str = "last-stop.json";
    /// `daemon`: [`super::Lives`].
    pub const LIVES: &str = "lives.json";
    /// Every agent: what it logged last, at most [`super::LOG_HALF`] bytes.
    pub const LOG: &str = "log";
    /// Every agent: what it logged before that, as much again.
    pub const LOG_BEFORE: &str = "log.before";
}

/// Bytes of each of the two files of an agent's log. They are in memory, and count for the container that writes them.
pub const LOG_HALF: u64 = 512 << 10;

/// One life of the pod: the kernel's boot id and the start time of PID 1 of the shared PID namespace
/// (`/proc/1/stat` field 22), as `BOOTID:TICKS`. A file of another life says nothing about this one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Life(pub String);

/// The daemon answers its protocol. Valid only while the named process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// This life.
    pub life: Life,
    /// daemon-init's own pid in the shared PID namespace.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`: a pid alone may be somebody else's by now.
    pub start_time: u64,
    /// The volume's identity, made when it was first seeded.
    pub store_id: String,
    /// As the daemon's handshake told, e.g. `2.26.3`.
    pub nix_version: String,
    /// [`crate::image::ImageManifest::id`] of the running image.
    pub image: String,
    /// In force; absent in what an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<Isolation>,
    /// Seconds since the epoch.
    pub at: u64,
}

/// What keeps the daemon container, and with it each build, apart from the machine. The volume's format is the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Isolation {
    /// Root on the machine, who mounts the store and makes the sandbox.
    Privileged,
    /// Root in a user namespace of the pod's own, without privilege on the machine.
    Userns,
}

impl Isolation {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Privileged, Self::Userns];

    /// As `daemon-init serve --isolation` and `[daemon] isolation` call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Userns => "userns",
        }
    }
}

/// What an agent is doing, in its own words; the last words of a failed one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentStatus {
    /// This life.
    pub life: Life,
    /// Binary's name.
    pub agent: String,
    /// Its version, to compare with the client's.
    pub version: String,
    /// Where it stands.
    pub phase: Phase,
    /// One line for a person: what it does, or why it failed and what to do next.
    pub message: String,
    /// Set when `phase` is `Failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Exit>,
    /// Work done of work known, for a progress bar (bytes while seeding).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<(u64, u64)>,
    /// The configuration in force: first 12 hex digits of the file's sha256; `defaults` without a file.
    #[serde(default)]
    pub config: String,
    /// A refused change of the configuration, or settings that wait for a restart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_note: Option<String>,
    /// Seconds since the epoch.
    pub at: u64,
}

/// How [`AgentStatus::config_note`] begins where a changed file cannot be used.
pub const CONFIG_REFUSED: &str = "refused: ";

impl AgentStatus {
    /// The file that is there now cannot be used; an earlier one is in force.
    #[must_use]
    pub fn refuses(&self) -> bool {
        self.config_note.as_ref().is_some_and(|note| note.starts_with(CONFIG_REFUSED))
    }
}

/// See [`AgentStatus`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Not yet serving.
    Starting,
    /// Serving.
    Running,
    /// Letting work end.
    Draining,
    /// Ended as asked.
    Ended,
    /// Ended, or about to, for `message`.
    Failed,
}

/// A foreign SIGTERM reached daemon-init (hazard: it reaches all containers at once). user-init and the
/// others leave when `drained` is true.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// This life.
    pub life: Life,
    /// No build is left and the daemon is gone.
    pub drained: bool,
    /// Builds that are waited for.
    pub builds: u32,
    /// Seconds since the epoch at which builds are ended.
    pub deadline: u64,
}

/// What the daemon container sees, written when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonActivity {
    /// This life.
    pub life: Life,
    /// Held build-user locks.
    pub builds: u32,
    /// Builds that have begun since this daemon-init did.
    #[serde(default)]
    pub begun: u64,
    /// Seconds since the epoch when a build was last seen running; 0: never in this life.
    pub last_build: u64,
}

/// What the user container sees, written when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserActivity {
    /// This life.
    pub life: Life,
    /// Open ones.
    pub sessions: Vec<Session>,
    /// Ids of jobs that run or wait for their turn.
    pub jobs: Vec<String>,
    /// Jobs that the end before this start of the agent interrupted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<crate::job::LostJob>,
    /// Seconds since the epoch when a session or job last began or ended; 0: never in this life.
    pub last_work: u64,
    /// What the user's processes do that belong to no session and no job; absent while they do nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detached: Option<String>,
    /// The last that was done by sessions, jobs and detached processes, as far as it is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Moment>,
    /// sshd has ended and is yet to be started again: nobody can come in by it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sshd_down: bool,
    /// Somebody's wish that the builder stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

impl UserActivity {
    /// Nobody is there, and nobody was.
    #[must_use]
    pub fn quiet(life: Life) -> Self {
        Self {
            life,
            sessions: Vec::new(),
            jobs: Vec::new(),
            lost: Vec::new(),
            last_work: 0,
            detached: None,
            last: None,
            sshd_down: false,
            hold: None,
        }
    }
}

/// When something was last seen to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// Nanoseconds of the monotonic clock, which all containers of the pod share.
    pub at: u64,
    /// What, e.g. `session (ssh): terminal`.
    pub source: String,
}

/// `trampoline-cli hold`: until then the builder does not stop by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Seconds since the epoch: it outlives the pod.
    pub until: u64,
    /// The same by the monotonic clock, in nanoseconds; counts in the life that it was written in, where a clock that is set
    /// changes nothing.
    pub ends: u64,
    /// Why, for others; may be empty.
    #[serde(default)]
    pub reason: String,
    /// `user@host` of whoever asked for it.
    pub by: String,
}

/// A way in that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Pid of `user-init session`.
    pub pid: i32,
    /// How it came.
    pub kind: SessionKind,
    /// What runs in it, shortened; empty for a login shell.
    pub command: String,
    /// Seconds since the epoch.
    pub since: u64,
    /// By what it shows that it is at work, e.g. `cpu`, `terminal`; absent while it is open and silent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<String>,
}

/// See [`Session`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKind {
    /// Through sshd.
    Ssh,
    /// Through the engine's exec (`trampoline-cli shell`).
    Exec,
    /// A transfer by the client (push).
    Transfer,
}

/// Two-phase stop: the monitor asks, the two that can admit work close admission and acknowledge with
/// their count of it; only zero and zero is final, anything else opens again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopRequest {
    /// This life.
    pub life: Life,
    /// Grows by one with each `Ask`; an acknowledgement of another generation is void.
    pub generation: u64,
    /// Where it stands.
    pub phase: StopPhase,
    /// How it ends once it is final.
    #[serde(default)]
    pub end: StopEnd,
    /// For a person, e.g. `idle for 30m`.
    pub reason: String,
    /// Seconds since the epoch of the last activity.
    pub last_activity: u64,
}

/// See [`StopRequest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopPhase {
    /// Work is admitted.
    Open,
    /// Close admission and acknowledge.
    Ask,
    /// Nothing is taken any more. With [`StopEnd::Leave`] never taken back.
    Final,
}

/// Who ends the agents after [`StopPhase::Final`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopEnd {
    /// They leave with exit code 0, and the pod ends with the last of them.
    #[default]
    Leave,
    /// The engine, by SIGTERM: it would only start again who leaves. A client that wakes the builder at that moment may be
    /// faster, and then no signal comes: the monitor sees that and says `Open` again.
    AwaitSignal,
}

/// Answer to an `Ask`; admission stays closed until the request says `Open` or `Final`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAck {
    /// This life.
    pub life: Life,
    /// Of the request.
    pub generation: u64,
    /// Builds (daemon) or sessions and jobs (user) that exist now.
    pub work: u32,
}

/// The monitor's view, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleStatus {
    /// This life.
    pub life: Life,
    /// Seconds since the epoch.
    pub last_activity: u64,
    /// What it was, e.g. `build`, `session (ssh)`, `start`.
    pub source: String,
    /// Seconds since the epoch at which it stops if nothing happens; absent while work runs or where
    /// stopping is switched off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stops_at: Option<u64>,
    /// What keeps it besides, in force now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keeps: Vec<Keep>,
    /// It is about to stop: who has a terminal open is to be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub soon: bool,
    /// For the monitor that comes after this one in the same life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<IdleMemory>,
}

/// A reason besides activity for which a builder stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keep {
    /// `hold` or `keep-up`.
    pub what: String,
    /// Seconds since the epoch.
    pub until: u64,
    /// Who and why, or the window, for a person.
    pub note: String,
}

/// What a monitor that was killed must not forget: else the builder would have to be idle once more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleMemory {
    /// [`IdleStatus::last_activity`] in nanoseconds of the monotonic clock.
    pub at: u64,
    /// [`DaemonActivity::last_build`] as it was judged last.
    pub last_build: u64,
}

/// The store's size, for `status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// This life.
    pub life: Life,
    /// Valid paths.
    pub paths: u64,
    /// Sum of their NAR sizes, bytes.
    pub nar_bytes: u64,
    /// Size of the file system that holds the volume, bytes.
    pub fs_bytes: u64,
    /// Free on it for us, bytes.
    pub fs_free_bytes: u64,
    /// Inodes of it (0 where the file system has no such limit).
    pub fs_inodes: u64,
    /// Free ones.
    pub fs_free_inodes: u64,
    /// Seconds since the epoch.
    pub at: u64,
    /// What there is too little of on the file system, for a person; absent while there is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub short: Option<String>,
    /// The last collection of ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_gc: Option<GcSummary>,
}

/// A build met the end of the store's volume: something should go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskFull {
    /// This life.
    pub life: Life,
    /// Seconds since the epoch.
    pub at: u64,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcSummary {
    /// Seconds since the epoch when it ended.
    pub at: u64,
    /// Deleted paths (or, for a dry run, dead ones).
    pub paths: u64,
    /// Bytes freed as Nix counts them.
    pub freed_bytes: u64,
    /// Whether identical files were linked afterwards.
    pub optimised: bool,
    /// Nothing was deleted.
    pub dry_run: bool,
    /// Why: `schedule`, `asked`, `pressure`.
    pub cause: String,
    /// Free on the file system afterwards, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free_bytes: Option<u64>,
    /// The last [`DiskFull::at`] that a collection has answered, this one or one before it; 0 if none has.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub healed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Kept on the store volume, so that it is known after the pod has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastStop {
    /// Seconds since the epoch; 0 if unknown.
    pub at: u64,
    /// For a person.
    pub reason: String,
    /// Seconds since the epoch of the last activity, 0 if unknown.
    pub last_activity: u64,
    /// Free and total bytes of the volume's file system then.
    pub fs_free_bytes: u64,
    /// See `fs_free_bytes`.
    pub fs_bytes: u64,
}

/// Counts of the builder's lives, since its store was made. Kept on the store volume by daemon-init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lives {
    /// This life.
    pub life: Life,
    /// Begun, this one included.
    pub wakes: u64,
    /// Ended because nothing was done.
    pub idle: u64,
    /// Ended because somebody asked for it.
    pub asked: u64,
    /// Ended without a word: killed, or the machine went down.
    pub killed: u64,
}

/// What `user-init status` prints: everything that the pod publishes, in one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuilderStatus {
    /// This life.
    pub life: Life,
    /// Present only while it is valid.
    pub ready: Option<Ready>,
    /// One per agent that has written one in this life.
    pub agents: Vec<AgentStatus>,
    /// From the daemon container.
    pub daemon: Option<DaemonActivity>,
    /// From the user container.
    pub user: Option<UserActivity>,
    /// From the monitor.
    pub idle: Option<IdleStatus>,
    /// From the monitor.
    pub stop: Option<StopRequest>,
    /// From daemon-init, once it was asked to leave.
    pub drain: Option<Drain>,
    /// From maintenance.
    pub store: Option<StoreStatus>,
    /// From the daemon container; absent in what an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<BuilderKeys>,
    /// From the daemon container, if any path was ever damaged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub damage: Option<Damage>,
    /// From the daemon container; absent in what an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Memory>,
    /// From the daemon container; absent where builds have no volume of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build_dir: Option<BuildDir>,
    /// Limit on processes in force for the user (hazard: none under `kube play`).
    pub pids_limit: Option<u64>,
    /// Nix's name of the platform that the agents were built for; absent in what an earlier version wrote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

impl BuilderStatus {
    /// What this container's agent has written of itself.
    #[must_use]
    pub fn agent(&self, of: Container) -> Option<&AgentStatus> {
        self.agents.iter().find(|agent| agent.agent == of.agent())
    }

    /// Whether sessions and jobs are taken: both the daemon and the way in are there.
    #[must_use]
    pub fn is_served(&self) -> bool {
        self.ready.is_some() && self.agent(Container::User).is_some_and(|user| user.phase == Phase::Running)
    }
}
