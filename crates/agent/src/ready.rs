//! Is the daemon there? The file, the process that wrote it, and the daemon's own answer.

use std::io;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use contract::handshake::{Life, Ready, file};
use contract::in_use::Process;
use contract::places::Container;

use crate::files;
use crate::paths::Paths;
use crate::proc;
use crate::signals::Signal;
use crate::wait::{Waiter, Wake};

/// A daemon that accepted a connection and says nothing for so long is not well.
const ANSWER: Duration = Duration::from_secs(10);

/// A daemon that takes a connection and ends it may be unable to fork for a moment: its processes are as many as they may be, or, under
/// rootless podman, all of that user's. Nothing tells when it can, so it is asked again after so long.
pub const AGAIN: Duration = Duration::from_secs(1);

/// The wait ended without a daemon.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `deadline` passed.
    #[error("the daemon was not ready in time")]
    Deadline,
    /// SIGTERM.
    #[error("asked to leave while waiting for the daemon")]
    Terminated,
    /// Of the operating system.
    #[error("wait for the daemon")]
    Io(#[from] io::Error),
}

/// `ready.json`, if it is of this life and names a daemon-init that lives: it outlives a container that was killed and
/// restarted under the same PID 1.
#[must_use]
pub fn published(paths: &Paths, life: &Life) -> Option<Ready> {
    let path = paths.run_dir(Container::Daemon).join(file::READY);
    let ready = files::read_live::<Ready>(&path, life).ok().flatten()?;
    let alive = proc::lives(&paths.proc, Process { pid: ready.pid, start_time: ready.start_time });
    alive.then_some(ready)
}

/// Speaks the daemon's protocol: a socket file proves nothing, a stale one survives on the volume. Returns Nix's version.
///
/// # Errors
/// When it cannot be reached or does not answer as a daemon does.
pub fn ask_daemon(paths: &Paths) -> io::Result<String> {
    let mut stream = UnixStream::connect(paths.daemon_socket())?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let hello = worker_protocol::handshake(&mut stream).map_err(io::Error::other)?;
    Ok(hello.nix_version)
}

/// Waits until the daemon is ready and answers.
///
/// # Errors
/// See [`Error`].
pub fn wait_ready(
    paths: &Paths,
    life: &Life,
    waiter: &mut Waiter<'_>,
    deadline: Instant,
) -> Result<Ready, Error> {
    let daemon_dir = paths.run_dir(Container::Daemon);
    waiter.watch_dir(&paths.run)?;
    let mut told = false;
    loop {
        let mut next = deadline;
        // The daemon's folder may come later than we do.
        waiter.watch_dir_if_there(&daemon_dir)?;
        if let Some(ready) = published(paths, life) {
            match ask_daemon(paths) {
                Ok(_) => return Ok(ready),
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(error = %error, "published as ready, but it does not answer");
                    }
                    next = deadline.min(Instant::now() + AGAIN);
                }
            }
        }
        match waiter.wait(Some(next))? {
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => return Err(Error::Terminated),
            Wake::Deadline if Instant::now() >= deadline => return Err(Error::Deadline),
            _ => {}
        }
    }
}
