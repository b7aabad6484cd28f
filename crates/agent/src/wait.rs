//! Waiting: for a change, a signal or a descriptor, and never for ever by accident.

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, poll};

use crate::signals::{Signal, Signals};
use crate::watch::{DirWatch, LOOK, rounded_up};

/// A pause that grows: `first`, doubled for each failure in a row `before` this one, and `longest` at most.
#[must_use]
pub fn growing(first: Duration, before: u32, longest: Duration) -> Duration {
    // Doubled that often, any pause is beyond the longest.
    first.saturating_mul(1 << before.min(31)).min(longest)
}

/// Why a wait ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    /// Something changed in a watched folder (or it is time to look).
    Changed,
    /// Signals arrived.
    Signals(Vec<Signal>),
    /// The descriptor with this index can be read.
    Fd(usize),
    /// The deadline passed.
    Deadline,
}

/// Watched folders and signals together.
#[derive(Debug)]
pub struct Waiter<'a> {
    signals: &'a Signals,
    watch: DirWatch,
    /// Something has changed, and was not told yet.
    changed: bool,
    /// A descriptor was told last.
    fd_was_told: bool,
}

impl<'a> Waiter<'a> {
    /// Without folders yet.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than used-up instances.
    pub fn new(signals: &'a Signals) -> io::Result<Self> {
        Ok(Self { signals, watch: DirWatch::new()?, changed: false, fd_was_told: false })
    }

    /// See [`DirWatch::add`].
    ///
    /// # Errors
    /// As there.
    pub fn watch_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.watch.add(dir)
    }

    /// The same for a folder that may come later: whoever waits for it watches its parent, first, and tries again at each
    /// change there.
    ///
    /// # Errors
    /// As there, but for a folder that is missing.
    pub fn watch_dir_if_there(&mut self, dir: &Path) -> io::Result<()> {
        match self.watch_dir(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// See [`DirWatch::add_opens`].
    ///
    /// # Errors
    /// As there.
    pub fn watch_dir_opens(&mut self, dir: &Path) -> io::Result<()> {
        self.watch.add_opens(dir)
    }

    /// See [`DirWatch::add_once`].
    ///
    /// # Errors
    /// As there.
    pub fn watch_dir_once(&mut self, dir: &Path) -> io::Result<()> {
        self.watch.add_once(dir)
    }

    /// Waits until `deadline` (or, without one, until something happens) for a signal, a change in a watched folder, or
    /// one of `fds` to be readable. Several at once: signals are told first, then descriptors and changes in turn, so that whoever
    /// makes one of them happen without end keeps none of the other from being told; the rest next time.
    ///
    /// # Errors
    /// When `poll` fails.
    pub fn wait_fds(&mut self, deadline: Option<Instant>, fds: &[BorrowedFd<'_>]) -> io::Result<Wake> {
        loop {
            let now = Instant::now();
            let left = deadline.map(|d| d.saturating_duration_since(now));
            let look = self.watch.is_blind().then_some(LOOK);
            let told = self.changed.then_some(Duration::ZERO);
            let timeout = left.into_iter().chain(look).chain(told).min();
            let ready = self.poll(timeout, fds)?;
            let signals = self.signals.drain();
            if !signals.is_empty() {
                return Ok(Wake::Signals(signals));
            }
            self.changed |= self.watch.drain();
            if let Some(index) = ready
                && !(self.changed && self.fd_was_told)
            {
                self.fd_was_told = true;
                return Ok(Wake::Fd(index));
            }
            self.fd_was_told = false;
            if self.changed {
                self.changed = false;
                return Ok(Wake::Changed);
            }
            if deadline.is_some_and(|d| Instant::now() >= d) {
                return Ok(Wake::Deadline);
            }
            if self.watch.is_blind() {
                return Ok(Wake::Changed);
            }
        }
    }

    /// As [`Self::wait_fds`] without further descriptors.
    ///
    /// # Errors
    /// When `poll` fails.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<Wake> {
        self.wait_fds(deadline, &[])
    }

    /// Index of the first readable one of `fds`, if any.
    fn poll(&self, timeout: Option<Duration>, fds: &[BorrowedFd<'_>]) -> io::Result<Option<usize>> {
        use std::os::fd::AsFd;
        let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        polled.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        polled.extend(self.watch.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        match poll(&mut polled, rounded_up(timeout)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        Ok(polled[..fds.len()].iter().position(|p| p.any().unwrap_or(false)))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn neither_changes_nor_descriptors_are_kept_from_being_told() {
        let signals = Signals::install().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let mut waiter = Waiter::new(&signals).unwrap();
        waiter.watch_dir(dir.path()).unwrap();
        let (here, mut there) = UnixStream::pair().unwrap();
        // Readable without end.
        there.write_all(b"x").unwrap();
        let mut next =
            || waiter.wait_fds(Some(Instant::now() + Duration::from_secs(60)), &[here.as_fd()]).unwrap();
        let change = || std::fs::write(dir.path().join("x"), "").unwrap();
        assert_eq!([next(), next()], [Wake::Fd(0), Wake::Fd(0)]);
        change();
        // Changes without end.
        let both = [(); 4].map(|()| {
            let wake = next();
            change();
            wake
        });
        assert_eq!(both, [Wake::Changed, Wake::Fd(0), Wake::Changed, Wake::Fd(0)]);
    }
}
