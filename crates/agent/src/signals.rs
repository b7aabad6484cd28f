//! Signals as a descriptor that can be waited on.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGTERM};

/// What arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT: leave.
    Terminate,
    /// SIGHUP: read the configuration again.
    Reload,
    /// SIGCHLD: a child has ended.
    Child,
}

/// Installed handlers and the pipe that they write to. Each handler only sets a flag and writes one byte.
#[derive(Debug)]
pub struct Signals {
    pipe: UnixStream,
    flags: Vec<(Arc<AtomicBool>, Signal)>,
}

impl Signals {
    /// Takes over SIGTERM, SIGINT, SIGHUP and SIGCHLD for the whole process.
    ///
    /// # Errors
    /// When a handler cannot be installed.
    pub fn install() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let mut flags = Vec::new();
        for (number, signal) in [
            (SIGTERM, Signal::Terminate),
            (SIGINT, Signal::Terminate),
            (SIGHUP, Signal::Reload),
            (SIGCHLD, Signal::Child),
        ] {
            let flag = Arc::new(AtomicBool::new(false));
            // The flag first: who is woken by the byte must find it set.
            signal_hook::flag::register(number, Arc::clone(&flag))?;
            signal_hook::low_level::pipe::register(number, write.try_clone()?)?;
            flags.push((flag, signal));
        }
        Ok(Self { pipe, flags })
    }

    /// What arrived since the last call. Several of a kind count once.
    #[must_use]
    pub fn drain(&self) -> Vec<Signal> {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(n) if n > 0) {}
        let mut seen = Vec::new();
        for (flag, signal) in &self.flags {
            if flag.swap(false, Ordering::SeqCst) && !seen.contains(signal) {
                seen.push(*signal);
            }
        }
        seen
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
