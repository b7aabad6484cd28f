//! What can go wrong in a conversation.

use std::io;

/// The conversation cannot go on. After any of these but [`Error::Daemon`] the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream failed or ended in the middle.
    #[error("talk to the nix daemon")]
    Io(#[from] io::Error),
    /// Something else listens there.
    #[error("no nix daemon: it greeted with {0:#x}")]
    NotADaemon(u64),
    /// Older than Nix 2.0, or of a future that we do not know.
    #[error("the nix daemon speaks protocol {major}.{minor}, which is not supported")]
    Version {
        /// Must be 1.
        major: u64,
        /// Must be at least [`crate::OLDEST_MINOR`].
        minor: u64,
    },
    /// Longer than anything that an honest daemon sends.
    #[error("the nix daemon announced {length} for {what}, more than {limit}")]
    TooLong {
        /// Of what.
        what: &'static str,
        /// Bytes or elements.
        length: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// Neither what the protocol prescribes nor anything we asked for.
    #[error("the nix daemon sent {value:#x} as {what}")]
    Unexpected {
        /// Instead of what.
        what: &'static str,
        /// The number.
        value: u64,
    },
    /// A store path or version that is no text.
    #[error("the nix daemon sent {what} that is not text")]
    NotText {
        /// What should have been text.
        what: &'static str,
    },
    /// Something else where the archive of a store path should be.
    #[error("the nix daemon sent something that is no archive of a store path")]
    NotAnArchive,
    /// It did not do what was asked, and says why. The conversation may go on.
    #[error("{0}")]
    Daemon(DaemonError),
}

/// The daemon's own refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaemonError {
    /// As Nix prints it, without colours.
    pub message: String,
    /// Where it happened, outermost last.
    pub traces: Vec<String>,
}

impl std::fmt::Display for DaemonError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)?;
        self.traces.iter().try_for_each(|trace| write!(f, " ({trace})"))
    }
}

/// Result of anything here.
pub type Result<T> = std::result::Result<T, Error>;
