//! The control socket between `serve` and everything else of ours in the container. One JSON object a line; a connection that
//! asked for a session *is* the session: it counts until it closes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use contract::exit::Exit;
use contract::handshake::SessionKind;
use contract::job::{BuildRequest, JobStarted};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};

/// Longest line: a build request with a long list of attributes.
pub const LINE_MAX: usize = 1 << 20;
/// `serve` answers from memory. The stop protocol's own wait is bounded below.
const ANSWER: Duration = Duration::from_secs(20);
/// The monitor decides within seconds of the acknowledgements; an unanswered question is no reason to hang.
const DECISION: Duration = Duration::from_secs(60);

/// First and only line of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// Admit a session; it lasts as long as the connection.
    Session {
        /// How it came.
        kind: SessionKind,
        /// What runs in it, for `status`.
        command: String,
    },
    /// Start a job.
    Build(BuildRequest),
    /// End a job.
    Cancel {
        /// Which.
        id: String,
    },
    /// The builder is to stay, until then and for this reason; in place of any earlier wish.
    Hold {
        /// Seconds from now.
        seconds: u64,
        /// May be empty.
        reason: String,
        /// `user@host` of whoever asks.
        by: String,
    },
    /// It need not stay any more.
    Release,
    /// A push has made old trees superfluous.
    Prune {
        /// Of which project.
        project: String,
    },
}

/// What `serve` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Go on.
    Admitted,
    /// Not yet: a stop is being decided. Another reply follows.
    Wait,
    /// No.
    Refused {
        /// Why, as a code.
        exit: Exit,
        /// Why, for a person.
        message: String,
    },
    /// The job runs.
    Started(JobStarted),
    /// For a person at a terminal, if there is one; everything goes on.
    Notice {
        /// One line.
        message: String,
    },
    /// The session is to end; the text says why.
    Leave {
        /// For a person.
        message: String,
    },
}

fn ended() -> Error {
    Error::Stopping("the builder has just stopped".into())
}

/// Whoever ends with unread questions, or none at all, tells so in one of these ways.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// A client's connection.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
}

impl Client {
    /// Connects, asks, and waits for the decision. `say` hears that there is something to wait for.
    ///
    /// # Errors
    /// A refusal; or there is nobody to ask.
    pub fn ask(socket: &Path, request: &Request, mut say: impl FnMut(&str)) -> Result<(Self, Reply)> {
        let stream = match UnixStream::connect(socket) {
            Ok(stream) => stream,
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Err(Error::Stopping(
                    "the builder is not serving: it is starting or has just stopped".into(),
                ));
            }
            Err(e) => return Err(io_error("connect to", socket)(e)),
        };
        let failed = || io_error("talk to", socket);
        stream.set_write_timeout(Some(ANSWER)).map_err(failed())?;
        stream.set_read_timeout(Some(ANSWER)).map_err(failed())?;
        let mut line = serde_json::to_vec(request).map_err(|e| failed()(e.into()))?;
        line.push(b'\n');
        match (&stream).write_all(&line) {
            Err(e) if is_end(&e) => return Err(ended()),
            written => written.map_err(failed())?,
        }
        let mut client = Self { stream: BufReader::new(stream) };
        loop {
            match client.reply() {
                Ok(Some(Reply::Wait)) => {
                    say("the builder is about to stop: waiting for its decision");
                    client.stream.get_ref().set_read_timeout(Some(DECISION)).map_err(failed())?;
                }
                Ok(Some(Reply::Refused { exit: Exit::Stopping, message })) => {
                    return Err(Error::Stopping(message));
                }
                Ok(Some(Reply::Refused { exit: Exit::NoRoom, message })) => {
                    return Err(Error::NoRoom(message));
                }
                Ok(Some(Reply::Refused { exit: Exit::ChildFailed, message })) => {
                    return Err(Error::Child(message));
                }
                Ok(Some(Reply::Refused { message, .. })) => return Err(Error::NotFound(message)),
                Ok(Some(reply)) => {
                    client.stream.get_ref().set_read_timeout(None).map_err(failed())?;
                    return Ok((client, reply));
                }
                Ok(None) => return Err(ended()),
                Err(e) if is_end(&e) => return Err(ended()),
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(Error::Stopping("the builder does not answer; try again".into()));
                }
                Err(e) => return Err(failed()(e)),
            }
        }
    }

    /// The next line; `None` when `serve` has closed the connection.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reply(&mut self) -> io::Result<Option<Reply>> {
        let mut line = Vec::new();
        let limit = u64::try_from(LINE_MAX).unwrap_or(u64::MAX);
        self.stream.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        Ok(Some(serde_json::from_slice(&line)?))
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.get_ref().as_fd()
    }
}
