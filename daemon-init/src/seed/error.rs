//! Why a store volume is refused, or could not be made ready.

use std::io;
use std::path::{Path, PathBuf};

use contract::exit::Exit;
use nix::errno::Errno;

use super::room::Room;

/// Each message says what happened, to which path, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process holds the lock.
    #[error(
        "the store volume {path} is in use by another builder; stop that one, or give this one a volume of its own"
    )]
    InUse {
        /// The volume.
        path: PathBuf,
    },
    /// Mounted read-only, or turned read-only by the kernel after an I/O error.
    #[error(
        "the store volume {path} is read-only; mount it writable, and look at the node's kernel log in case its disk has failed"
    )]
    ReadOnly {
        /// The volume.
        path: PathBuf,
    },
    /// Something that we did not make.
    #[error(
        "the store volume {path} is not a store of ours: {found}; nothing was changed; give the builder an empty volume"
    )]
    NotOurs {
        /// The volume.
        path: PathBuf,
        /// What gave it away.
        found: String,
    },
    /// A copied `/nix` without our mark.
    #[error(
        "the store volume {path} holds a Nix store that was not made by this builder; nothing was changed; `trampoline-cli setup --adopt-store` takes it over"
    )]
    Legacy {
        /// The volume.
        path: PathBuf,
    },
    /// Asked to adopt a store whose database names what is not there.
    #[error(
        "the Nix store on {path} cannot be taken over: its database names {count} paths that are missing, {first} first; nothing was changed; repair it with `nix-store --verify --repair`, or give the builder an empty volume"
    )]
    LegacyDamaged {
        /// The volume.
        path: PathBuf,
        /// How many.
        count: usize,
        /// One of them.
        first: String,
    },
    /// A downgrade.
    #[error(
        "the store on {path} was last used by Nix {store}, the image has Nix {image}, and an older Nix must not write a newer store; nothing was changed; use an image with Nix {store} or newer"
    )]
    StoreNewer {
        /// The volume.
        path: PathBuf,
        /// Version that wrote it.
        store: String,
        /// The image's.
        image: String,
    },
    /// A downgrade over a change of the database's layout.
    #[error(
        "the store on {path} has database schema {store}, newer than schema {image} of the image's Nix {nix}; nothing was changed; use an image with a newer Nix"
    )]
    SchemaNewer {
        /// The volume.
        path: PathBuf,
        /// Its schema.
        store: u32,
        /// The image's.
        image: u32,
        /// The image's Nix.
        nix: String,
    },
    /// A mark of a later release.
    #[error(
        "{path} has format {format}, which this release does not know; nothing was changed; use the release that wrote it, or a newer one"
    )]
    MarkNewer {
        /// The mark.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
    /// The image's store does not fit, not even after a collection.
    #[error(
        "no room on the store volume {path}: the image needs {needed}, free are {free}; make the volume larger by {short}"
    )]
    NoRoom {
        /// The volume.
        path: PathBuf,
        /// What has to be copied, with a margin.
        needed: Room,
        /// What there is.
        free: Room,
        /// The difference, zero where it fits.
        short: Room,
    },
    /// It ran full although there was room at first.
    #[error("the store volume {path} ran full; make it larger, or end whatever else writes to it")]
    Full {
        /// What was being written.
        path: PathBuf,
    },
    /// Mounted over the image's store before that was brought onto it.
    #[error(
        "the store volume {path} holds {found} instead of this image's store: the pod's first container must be of the same image and run `daemon-init prepare --seed`, with the volume at /trampoline/volume/nix; `trampoline-cli setup` and `kubectl apply -k container/userns` make such a pod"
    )]
    NotSeeded {
        /// The volume.
        path: PathBuf,
        /// What there is.
        found: String,
    },
    /// Asked to stop.
    #[error("stopped while the store was made ready; the next start goes on from here")]
    Aborted,
    /// A file of the volume or the image.
    #[error("cannot {doing} {path}")]
    Io {
        /// A verb.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The image's own Nix failed.
    #[error("`{command}` failed ({status}): {stderr}")]
    Child {
        /// As it would be typed.
        command: String,
        /// Exit code or signal.
        status: String,
        /// Its last lines.
        stderr: String,
    },
    /// The image contradicts itself: it was not made by `daemon-init bake`, or changed afterwards.
    #[error("the image is unusable: {path}: {reason}; build it again")]
    Image {
        /// File or store path.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl StoreError {
    /// The code that daemon-init ends with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::InUse { .. } => Exit::InUse,
            Self::ReadOnly { .. } => Exit::ReadOnly,
            Self::NotOurs { .. } | Self::Legacy { .. } | Self::LegacyDamaged { .. } => Exit::NotOurs,
            Self::StoreNewer { .. } | Self::SchemaNewer { .. } | Self::MarkNewer { .. } => Exit::StoreNewer,
            Self::NoRoom { .. } | Self::Full { .. } => Exit::NoRoom,
            Self::NotSeeded { .. } => Exit::Unsupported,
            Self::Aborted => Exit::Stopping,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Exit::NoPermission,
            Self::Io { .. } => Exit::Io,
            Self::Child { .. } => Exit::ChildFailed,
            Self::Image { .. } => Exit::Internal,
        }
    }

    /// Names the operation; a full or read-only volume gets its own variant, wherever it shows.
    pub(crate) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::ENOSPC | Errno::EDQUOT) => Self::Full { path: path.into() },
            Some(Errno::EROFS) => Self::ReadOnly { path: path.into() },
            _ => Self::Io { doing, path: path.into(), source },
        }
    }
}

/// Adds the operation and the path to a failed system call.
pub(crate) trait Context<T> {
    /// See [`StoreError::io`].
    fn context(self, doing: &'static str, path: &Path) -> Result<T, StoreError>;
}

impl<T, E: Into<io::Error>> Context<T> for Result<T, E> {
    fn context(self, doing: &'static str, path: &Path) -> Result<T, StoreError> {
        self.map_err(|e| StoreError::io(doing, path, e.into()))
    }
}
