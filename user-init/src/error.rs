//! What can go wrong, and the exit code that each stands for.

use std::io;
use std::path::{Path, PathBuf};

use contract::exit::Exit;
use contract::tree::Refused;

/// Any failure of a subcommand or of the agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Wrong words on the command line or on standard input.
    #[error("{0}")]
    Usage(String),
    /// Something that was named is not there.
    #[error("{0}")]
    NotFound(String),
    /// The builder takes no new work; the text says why.
    #[error("{0}")]
    Stopping(String),
    /// The store's volume has too little.
    #[error("{0}")]
    NoRoom(String),
    /// A file could not be read or written.
    #[error("{what} {}", path.display())]
    Io {
        /// Verb, e.g. `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file on the run or home volume.
    #[error(transparent)]
    File(#[from] agent::files::Error),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] agent::config::Error),
    /// A tree that must not be made.
    #[error("the tree is refused")]
    Tree(#[from] Refused),
    /// The bytes ended early, stalled or were not the announced ones.
    #[error("{0}")]
    Transfer(String),
    /// A program of others failed.
    #[error("{0}")]
    Child(String),
    /// The daemon did not come.
    #[error(transparent)]
    Ready(#[from] agent::ready::Error),
    /// Something was waited for too long.
    #[error("{0}")]
    Deadline(String),
}

/// Of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// For `map_err`: `what` is a verb.
pub fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

/// As [`io_error`], for calls of the `nix` crate.
pub fn errno(what: &'static str, path: &Path) -> impl FnOnce(nix::errno::Errno) -> Error {
    move |e| io_error(what, path)(e.into())
}

/// Full disks and quotas are one refusal, whoever meets them.
fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::NotFound(_) => Exit::Usage,
            Self::Stopping(_) => Exit::Stopping,
            Self::NoRoom(_) => Exit::NoRoom,
            Self::Io { source, .. } | Self::File(agent::files::Error::Io { source, .. })
                if is_full(source) =>
            {
                Exit::NoRoom
            }
            Self::Io { .. } | Self::File(_) | Self::Transfer(_) => Exit::Io,
            Self::Tree(_) => Exit::Usage,
            Self::Config(_) => Exit::Config,
            Self::Child(_) => Exit::ChildFailed,
            Self::Ready(agent::ready::Error::Deadline) | Self::Deadline(_) => Exit::Deadline,
            Self::Ready(agent::ready::Error::Terminated) => Exit::Ok,
            Self::Ready(agent::ready::Error::Io(_)) => Exit::Internal,
        }
    }
}
