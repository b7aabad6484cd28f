//! One client of the control socket.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use agent::control::{Got, Incoming};
use contract::handshake::Session;

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
    incoming: Incoming,
    /// Of the process at the other end, as the kernel says.
    pub(super) pid: i32,
    pub(super) state: State,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let incoming = Incoming::new(stream, LINE_MAX)?;
        Ok(Self { pid: incoming.pid, incoming, state: State::New })
    }

    /// Takes what is there.
    pub(super) fn read(&mut self) -> Got<Request> {
        self.incoming.read()
    }

    /// Says a line.
    pub(super) fn say(&mut self, reply: &Reply) {
        self.incoming.say(reply);
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.incoming.as_fd()
    }
}
