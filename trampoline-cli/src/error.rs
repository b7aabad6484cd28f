//! What every command fails with: one line that says what is wrong, one that says what to do, an exit code.

use std::fmt;
use std::path::Path;

use contract::exit::Exit;

/// A refusal or failure, as the user sees it.
#[derive(Debug)]
pub(crate) struct CliError {
    /// Which refusal: the exit code.
    pub(crate) exit: Exit,
    /// What is wrong. Lower case, names the path.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) hint: Option<String>,
}

/// Of everything in this program.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

impl CliError {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None }
    }

    /// The builder has no such thing, or the arguments contradict each other.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// podman or the cluster failed.
    pub(crate) fn engine(message: impl Into<String>) -> Self {
        Self::new(Exit::Engine, message)
    }

    /// This client and the agents in the builder do not understand each other.
    pub(crate) fn other_version(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
            .hint("client and image are of different versions: `trampoline-cli setup` brings them together")
    }

    /// A file could not be read or written.
    pub(crate) fn io(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(Exit::Io, format!("{doing} {}: {error}", path.display()))
    }

    /// Standard output takes nothing more. Whoever closed it has had enough, as `head` has: that is no failure, and
    /// nothing is said of it.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::Ok, "");
        }
        Self::new(Exit::Io, format!("cannot write to stdout: {error}"))
    }

    /// What to do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// As `--json` shows it.
    pub(crate) fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "error": { "message": self.message, "hint": self.hint, "exit": self.exit.code() } })
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for CliError {}

/// Names the path that an I/O error is about.
pub(crate) trait OnPath<T> {
    /// `doing` is a verb phrase such as `cannot read`.
    fn on(self, doing: &str, path: &Path) -> Result<T>;
}

impl<T> OnPath<T> for std::io::Result<T> {
    fn on(self, doing: &str, path: &Path) -> Result<T> {
        self.map_err(|error| CliError::io(doing, path, &error))
    }
}

/// An I/O error that has no path: a pipe, a child.
pub(crate) trait While<T> {
    /// `doing` is a verb phrase such as `cannot talk to podman`.
    fn during(self, doing: &str) -> Result<T>;
}

impl<T> While<T> for std::io::Result<T> {
    fn during(self, doing: &str) -> Result<T> {
        self.map_err(|error| CliError::new(Exit::Io, format!("{doing}: {error}")))
    }
}
