//! Exit codes of agents and client: one table, each code one named refusal.

/// Why a program of ours ends. `build` passes Nix's own codes, `shell` and `ssh` the command's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Ok = 0,
    /// Wrong usage: unknown command, flag or argument (`EX_USAGE`).
    Usage = 64,
    /// The volume holds something that is not a store of ours.
    NotOurs = 65,
    /// The store was written by a newer Nix than the image's.
    StoreNewer = 66,
    /// The volume is mounted read-only.
    ReadOnly = 67,
    /// Another builder holds the volume, or another user owns the name.
    InUse = 68,
    /// Not enough bytes or inodes.
    NoRoom = 69,
    /// An unexpected error of ours (`EX_SOFTWARE`).
    Internal = 70,
    /// The kernel, podman or the cluster lacks something that is needed (`EX_OSERR`).
    Unsupported = 71,
    /// The engine (podman, the API server) failed or is not there.
    Engine = 72,
    /// A deadline passed.
    Deadline = 73,
    /// A file could not be read or written (`EX_IOERR`).
    Io = 74,
    /// The builder is stopping or draining, or ended before a build did; try again (`EX_TEMPFAIL`).
    Stopping = 75,
    /// A child (`nix-daemon`, sshd, `nix`) failed.
    ChildFailed = 76,
    /// No permission (`EX_NOPERM`).
    NoPermission = 77,
    /// `trampoline.toml` or an option is wrong (`EX_CONFIG`).
    Config = 78,
}

impl Exit {
    /// All, in order, for the table in the docs.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::Usage,
        Self::NotOurs,
        Self::StoreNewer,
        Self::ReadOnly,
        Self::InUse,
        Self::NoRoom,
        Self::Internal,
        Self::Unsupported,
        Self::Engine,
        Self::Deadline,
        Self::Io,
        Self::Stopping,
        Self::ChildFailed,
        Self::NoPermission,
        Self::Config,
    ];

    /// The number that the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The refusal that a number stands for.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|e| i32::from(e.code()) == code)
    }

    /// One line for the docs.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "done",
            Self::Usage => "wrong usage",
            Self::NotOurs => "the volume holds something that is not a store of ours",
            Self::StoreNewer => "the store was written by a newer Nix than the image's",
            Self::ReadOnly => "the store volume is read-only",
            Self::InUse => "the volume or the name is in use by another builder",
            Self::NoRoom => "not enough bytes or inodes",
            Self::Internal => "internal error",
            Self::Unsupported => "the kernel, podman or the cluster lacks something",
            Self::Engine => "podman or the cluster failed",
            Self::Deadline => "a deadline passed",
            Self::Io => "a file could not be read or written",
            Self::Stopping => "the builder is stopping, or stopped under a build; try again",
            Self::ChildFailed => "nix-daemon, sshd or nix failed",
            Self::NoPermission => "no permission",
            Self::Config => "the configuration is wrong",
        }
    }
}
