//! One client of the control socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use contract::handshake::Session;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

use crate::control::{LINE_MAX, Reply, Request};

/// What it is to us.
#[derive(Debug)]
pub(super) enum State {
    /// Has asked for nothing yet.
    New,
    /// Waits for the monitor's decision.
    Waiting(Request),
    /// An open session.
    Session(Session),
    /// Has its answer; only its end is waited for.
    Answered,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    /// Of the process at the other end, as the kernel says.
    pub(super) pid: i32,
    pub(super) state: State,
    line: Vec<u8>,
}

/// What reading gave.
pub(super) enum Got {
    /// Not a whole line yet, or something that does not matter.
    Nothing,
    /// What it asks for.
    Request(Request),
    /// It is gone, or talks nonsense.
    End,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let pid = getsockopt(&stream, PeerCredentials)?.pid();
        Ok(Self { stream, pid, state: State::New, line: Vec::new() })
    }

    /// Takes what is there.
    pub(super) fn read(&mut self) -> Got {
        let mut piece = [0; 4096];
        match self.stream.read(&mut piece) {
            Ok(0) => return Got::End,
            Ok(n) => self.line.extend_from_slice(&piece[..n]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                return Got::Nothing;
            }
            Err(_) => return Got::End,
        }
        if !matches!(self.state, State::New) || self.line.len() > LINE_MAX {
            return Got::End;
        }
        match self.line.iter().position(|b| *b == b'\n') {
            None => Got::Nothing,
            Some(at) => serde_json::from_slice(&self.line[..at]).map_or(Got::End, Got::Request),
        }
    }

    /// Says a line. Who does not read is not waited for: the answers are few and fit the socket's buffer.
    pub(super) fn say(&mut self, reply: &Reply) {
        let Ok(mut line) = serde_json::to_vec(reply) else { return };
        line.push(b'\n');
        if let Err(error) = self.stream.write_all(&line) {
            tracing::debug!(error = %error, pid = self.pid, "client not told");
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
