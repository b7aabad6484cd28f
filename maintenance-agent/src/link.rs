//! Linking of identical files for somebody who waits for it: not beside work, which would wait for the daemon.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use agent::paths::Paths;
use agent::published;
use agent::watch::DirWatch;
use contract::handshake::{DaemonActivity, Life, UserActivity, file};
use contract::places::Container;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::conversation::{self, Error};
use crate::cut::Cut;
use crate::schedule::busy;

/// What has come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Linked {
    /// All of them are linked.
    All,
    /// Somebody worked already.
    NotBegun,
    /// Somebody began to work meanwhile; what was linked until then stays so.
    Cut,
}

/// Links them until somebody works.
///
/// # Errors
/// See [`Error`].
pub(crate) fn until_work(paths: &Paths, life: &Life, log: &mut dyn FnMut(&str)) -> Result<Linked, Error> {
    let cut = Cut::default();
    // Watched before it is looked at: what changes in between is told.
    let mut watch = watch(paths).map_err(Error::Watch)?;
    if is_busy(paths, life) {
        return Ok(Linked::NotBegun);
    }
    log("linking identical files...");
    let (over, end) = UnixStream::pair().map_err(Error::Watch)?;
    let linked = thread::scope(|scope| {
        scope.spawn(|| {
            while wait(&mut watch, over.as_fd()) {
                if is_busy(paths, life) {
                    return cut.cut();
                }
            }
        });
        let linked = conversation::optimise(paths, &cut, log);
        drop(end);
        linked
    });
    match linked {
        Err(_) if cut.is_cut() => Ok(Linked::Cut),
        linked => linked.map(|()| Linked::All),
    }
}

fn watch(paths: &Paths) -> io::Result<DirWatch> {
    let mut watch = DirWatch::new()?;
    for container in [Container::Daemon, Container::User] {
        watch.add(&paths.run_dir(container))?;
    }
    Ok(watch)
}

/// For something to be published; false once `over` has no other end any more. One look a second where the kernel tells nothing.
fn wait(watch: &mut DirWatch, over: BorrowedFd<'_>) -> bool {
    let timeout = if watch.is_blind() { PollTimeout::from(1000_u16) } else { PollTimeout::NONE };
    let mut polled = vec![PollFd::new(over, PollFlags::POLLIN)];
    polled.extend(watch.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
    // An interruption is a look too many.
    let _ = poll(&mut polled, timeout);
    let ended = polled[0].any().unwrap_or(true);
    watch.drain();
    !ended
}

/// Whether somebody works in the builder now.
pub(crate) fn is_busy(paths: &Paths, life: &Life) -> bool {
    let daemon: Option<DaemonActivity> = published::read(paths, life, Container::Daemon, file::ACTIVITY);
    let user: Option<UserActivity> = published::read(paths, life, Container::User, file::ACTIVITY);
    busy(daemon.as_ref(), user.as_ref())
}
