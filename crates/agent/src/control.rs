//! Control sockets: one JSON object a line, and the kernel says who asks.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::control::{LINE_MAX, Reply, Request};
use contract::exit::Exit;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, umask};
use serde::{Serialize, de::DeserializeOwned};

/// Listens, without blocking, in place of a process before us. Never open to more than `mode` says.
///
/// # Errors
/// When the socket cannot be made.
pub fn listen(socket: &Path, mode: u32) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let old = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(socket);
    umask(old);
    let listener = bound?;
    fs::set_permissions(socket, fs::Permissions::from_mode(mode))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Somebody who has connected, and who asks once.
#[derive(Debug)]
pub struct Incoming {
    stream: UnixStream,
    /// Its process, as the kernel says.
    pub pid: i32,
    /// Its user.
    pub uid: u32,
    most: usize,
    line: Vec<u8>,
    asked: bool,
}

/// What reading gave.
#[derive(Debug, PartialEq, Eq)]
pub enum Got<T> {
    /// Not a whole line yet.
    Nothing,
    /// What it asks for.
    Request(T),
    /// A line that means nothing to us; why.
    Nonsense(String),
    /// It is gone, says too much, or asks twice.
    End,
}

impl Incoming {
    /// A connection whose question has at most `most` bytes.
    ///
    /// # Errors
    /// When it is gone already.
    pub fn new(stream: UnixStream, most: usize) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let peer = getsockopt(&stream, PeerCredentials)?;
        Ok(Self { stream, pid: peer.pid(), uid: peer.uid(), most, line: Vec::new(), asked: false })
    }

    /// Takes what is there.
    pub fn read<T: DeserializeOwned>(&mut self) -> Got<T> {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => return Got::End,
            Ok(n) => self.line.extend_from_slice(&piece[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Got::Nothing;
            }
            Err(_) => return Got::End,
        }
        if self.asked || self.line.len() > self.most {
            return Got::End;
        }
        let Some(end) = self.line.iter().position(|b| *b == b'\n') else { return Got::Nothing };
        self.asked = true;
        match serde_json::from_slice(&self.line[..end]) {
            Ok(request) => Got::Request(request),
            Err(error) => Got::Nonsense(error.to_string()),
        }
    }

    /// Says a line. Who does not read is not waited for: a few answers fit the socket's buffer.
    pub fn say<T: Serialize>(&self, reply: &T) {
        if let Err(error) = say(&self.stream, reply) {
            tracing::debug!(error = %error, pid = self.pid, "client not told");
        }
    }

    /// For an answer that takes a while: whoever does not read is waited for, for `patience`.
    ///
    /// # Errors
    /// When it is gone.
    pub fn into_answer(self, patience: Duration) -> io::Result<Answer> {
        self.stream.set_nonblocking(false)?;
        self.stream.set_write_timeout(Some(patience))?;
        Ok(Answer(self.stream))
    }
}

impl AsFd for Incoming {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

/// The way back to somebody who has asked.
#[derive(Debug)]
pub struct Answer(UnixStream);

impl Answer {
    /// Says a line.
    ///
    /// # Errors
    /// When nobody reads it.
    pub fn say<T: Serialize>(&self, reply: &T) -> io::Result<()> {
        say(&self.0, reply)
    }
}

/// At once, so that lines of several writers would not mix.
fn say<T: Serialize>(mut stream: &UnixStream, reply: &T) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("daemon-init does not serve at the moment; try again when the builder is ready")]
    NotServing,
    /// It said no.
    #[error("{message}")]
    Refused {
        /// As a code.
        exit: Exit,
        /// For a person.
        message: String,
    },
    /// It says nothing.
    #[error("daemon-init did not answer on {} within {} s; `trampoline-cli logs daemon` may say why", socket.display(), patience.as_secs())]
    Deadline {
        /// The socket.
        socket: PathBuf,
        /// What it was given.
        patience: Duration,
    },
    /// The conversation broke.
    #[error("talk to daemon-init on {}", socket.display())]
    Io {
        /// The socket.
        socket: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// For the end of a process.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotServing => Exit::Stopping,
            Self::Refused { exit, .. } => *exit,
            Self::Deadline { .. } => Exit::Deadline,
            Self::Io { .. } => Exit::Io,
        }
    }
}

/// Asks daemon-init, and hands each line of its answer but the last to `each`. It may be silent for `patience`.
///
/// # Errors
/// See [`Error`]; what `each` was given until then is true.
pub fn ask(
    socket: &Path,
    request: &Request,
    patience: Duration,
    mut each: impl FnMut(Reply) -> io::Result<()>,
) -> Result<(), Error> {
    let failed = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::UnexpectedEof => {
            Error::NotServing
        }
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            Error::Deadline { socket: socket.to_owned(), patience }
        }
        _ => Error::Io { socket: socket.to_owned(), source },
    };
    let stream = UnixStream::connect(socket).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.set_write_timeout(Some(patience)).map_err(failed)?;
    say(&stream, request).map_err(failed)?;
    let mut stream = BufReader::new(stream);
    loop {
        match read(&mut stream).map_err(failed)? {
            Reply::Done => return Ok(()),
            Reply::Refused { exit, message } => return Err(Error::Refused { exit, message }),
            reply => each(reply).map_err(|source| Error::Io { socket: socket.to_owned(), source })?,
        }
    }
}

/// A line. The end of the stream before an answer's own end is one of the other side's.
fn read(stream: &mut BufReader<UnixStream>) -> io::Result<Reply> {
    let mut line = Vec::new();
    stream.by_ref().take(LINE_MAX as u64).read_until(b'\n', &mut line)?;
    if line.last() != Some(&b'\n') {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(serde_json::from_slice(&line)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Pair {
        incoming: Incoming,
        client: UnixStream,
    }

    fn pair(most: usize) -> Pair {
        let (here, client) = UnixStream::pair().unwrap();
        Pair { incoming: Incoming::new(here, most).unwrap(), client }
    }

    #[test]
    fn a_line_may_come_in_pieces_and_is_bounded() {
        let Pair { mut incoming, mut client } = pair(16);
        assert_eq!(incoming.uid, nix::unistd::geteuid().as_raw());
        assert_eq!(incoming.pid, std::process::id().cast_signed());
        client.write_all(b"\"a").unwrap();
        assert_eq!(incoming.read::<String>(), Got::Nothing);
        client.write_all(b"bc\"\n").unwrap();
        assert_eq!(incoming.read(), Got::Request("abc".to_owned()));
        client.write_all(b"\"again\"\n").unwrap();
        assert_eq!(incoming.read::<String>(), Got::End, "it asks once");

        let Pair { mut incoming, mut client } = pair(16);
        client.write_all(&[b' '; 17]).unwrap();
        assert_eq!(incoming.read::<String>(), Got::End);
        let Pair { mut incoming, mut client } = pair(16);
        client.write_all(b"{}\n").unwrap();
        assert!(matches!(incoming.read::<String>(), Got::Nonsense(_)));
        let Pair { mut incoming, client } = pair(16);
        drop(client);
        assert_eq!(incoming.read::<String>(), Got::End);
    }

    /// A daemon-init that says these lines.
    fn answered(lines: &str) -> (Vec<Reply>, Result<(), Error>) {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let listener = listen(&socket, 0o666).unwrap();
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o666);
        listener.set_nonblocking(false).unwrap();
        let mut seen = Vec::new();
        let answer = std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut stream = BufReader::new(listener.accept().unwrap().0);
                stream.read_line(&mut String::new()).unwrap();
                stream.get_ref().write_all(lines.as_bytes()).unwrap();
            });
            ask(&socket, &Request::Roots { sizes: false }, Duration::from_secs(20), |reply| {
                seen.push(reply);
                Ok(())
            })
        });
        (seen, answer)
    }

    #[test]
    fn an_answer_has_an_end_of_its_own() {
        let progress = "{\"reply\":\"progress\",\"message\":\"x\"}\n";
        let (seen, answer) = answered(&format!("{progress}{{\"reply\":\"done\"}}\n"));
        answer.unwrap();
        assert_eq!(seen, [Reply::Progress { message: "x".into() }]);
        // One that breaks off is none, however much was said.
        assert!(matches!(answered(progress).1, Err(Error::NotServing)));
        let (_, refused) = answered("{\"reply\":\"refused\",\"exit\":\"no-room\",\"message\":\"full\"}\n");
        let refused = refused.unwrap_err();
        assert_eq!((refused.exit(), refused.to_string().as_str()), (Exit::NoRoom, "full"));
        assert!(matches!(answered("nonsense\n").1, Err(Error::Io { .. })));
    }

    #[test]
    fn nobody_there_is_no_wait() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let request = Request::Roots { sizes: false };
        let error = ask(&socket, &request, Duration::from_secs(20), |_| Ok(())).unwrap_err();
        assert_eq!(error.exit(), Exit::Stopping);
        let silent = listen(&socket, 0o600).unwrap();
        let error = ask(&socket, &request, Duration::from_millis(10), |_| Ok(())).unwrap_err();
        assert_eq!(error.exit(), Exit::Deadline);
        drop(silent);
    }
}
