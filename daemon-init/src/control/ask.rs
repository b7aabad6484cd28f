//! `daemon-init ask`: one question on standard input, the lines of the answer on standard output. What the client runs in the daemon
//! container, where it is root.

use std::io::{self, BufRead, Read, Write};
use std::time::Duration;

use agent::control;
use agent::paths::Paths;
use contract::control::{LINE_MAX, Request};
use contract::exit::Exit;

/// Between two lines of the answer. nix-daemon, which is asked for it, may be busy.
const PATIENCE: Duration = Duration::from_secs(120);

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not a question.
    #[error("the question on standard input is none that this version knows: {0}")]
    Question(String),
    /// See there.
    #[error(transparent)]
    Ask(#[from] control::Error),
}

impl Error {
    /// For the end of the process.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Question(_) => Exit::Usage,
            Self::Ask(error) => error.exit(),
        }
    }
}

/// Asks.
///
/// # Errors
/// See [`Error`].
pub fn ask(paths: &Paths) -> Result<(), Error> {
    let mut line = Vec::new();
    let read = io::stdin().lock().take(LINE_MAX as u64).read_until(b'\n', &mut line);
    let request = read.map_err(|error| Error::Question(error.to_string())).and_then(|_| {
        serde_json::from_slice::<Request>(&line).map_err(|error| Error::Question(error.to_string()))
    })?;
    let mut out = io::stdout().lock();
    Ok(control::ask(&paths.daemon_control_socket(), &request, PATIENCE, |reply| {
        let mut line = serde_json::to_vec(&reply)?;
        line.push(b'\n');
        out.write_all(&line)?;
        out.flush()
    })?)
}
