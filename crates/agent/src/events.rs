//! [`crate::wait`] for agents on tokio: the same events, awaited on its reactor.

use std::future;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::sleep_until;

use crate::signals::Signals;
use crate::wait::Wake;
use crate::watch::DirWatch;

/// Where inotify is used up, one look a second.
const LOOK: Duration = Duration::from_secs(1);

/// Watched folders and signals together.
#[derive(Debug)]
pub struct Events<'a> {
    signals: &'a Signals,
    signal_fd: AsyncFd<OwnedFd>,
    watch: DirWatch,
    watch_fd: Option<AsyncFd<OwnedFd>>,
}

/// A second descriptor of the same pipe: the reactor wants one of its own.
#[expect(
    deprecated,
    reason = "the successor is unsafe; an `OwnedFd` keeps what that one asks for: it stays the same descriptor"
)]
fn readable(fd: BorrowedFd<'_>) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd.try_clone_to_owned()?, Interest::READABLE)
}

impl<'a> Events<'a> {
    /// Without folders yet. Must be called within a runtime.
    ///
    /// # Errors
    /// When the kernel refuses for another reason than used-up inotify instances.
    pub fn new(signals: &'a Signals) -> io::Result<Self> {
        let watch = DirWatch::new()?;
        let watch_fd = watch.fd().map(readable).transpose()?;
        Ok(Self { signals, signal_fd: readable(signals.as_fd())?, watch, watch_fd })
    }

    /// See [`DirWatch::add`].
    ///
    /// # Errors
    /// As there.
    pub fn watch_dir(&mut self, dir: &Path) -> io::Result<()> {
        self.watch.add(dir)
    }

    /// As [`Self::watch_dir`]; false where there is no such folder yet.
    ///
    /// # Errors
    /// Any but its absence.
    pub fn watch_dir_if_there(&mut self, dir: &Path) -> io::Result<bool> {
        match self.watch.add(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Waits until `deadline` (or, without one, until something happens) for a signal or a change in a watched folder. May be
    /// dropped at any time: nothing is lost.
    ///
    /// # Errors
    /// When the reactor fails.
    pub async fn next(&mut self, deadline: Option<Instant>) -> io::Result<Wake> {
        loop {
            let look = self.watch.is_blind().then(|| Instant::now() + LOOK);
            let until = [deadline, look].into_iter().flatten().min();
            // Readiness is cleared before the pipe is emptied: what comes in between is told again.
            tokio::select! {
                biased;
                ready = self.signal_fd.readable() => {
                    ready?.clear_ready();
                    let seen = self.signals.drain();
                    if !seen.is_empty() {
                        return Ok(Wake::Signals(seen));
                    }
                }
                ready = changed(self.watch_fd.as_ref()) => {
                    ready?.clear_ready();
                    if self.watch.drain() {
                        return Ok(Wake::Changed);
                    }
                }
                () = reached(until) => {
                    let passed = deadline.is_some_and(|d| Instant::now() >= d);
                    return Ok(if passed { Wake::Deadline } else { Wake::Changed });
                }
            }
        }
    }
}

async fn changed(
    fd: Option<&AsyncFd<OwnedFd>>,
) -> io::Result<tokio::io::unix::AsyncFdReadyGuard<'_, OwnedFd>> {
    match fd {
        Some(fd) => fd.readable().await,
        None => future::pending().await,
    }
}

async fn reached(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until.into()).await,
        None => future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signals::Signal;

    #[test]
    fn changes_signals_and_deadlines_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let signals = Signals::install().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut events = Events::new(&signals).unwrap();
            events.watch_dir(dir.path()).unwrap();
            assert!(!events.watch_dir_if_there(&dir.path().join("later")).unwrap());
            let far = Some(Instant::now() + Duration::from_secs(20));
            for _ in 0..2 {
                crate::files::write_json(dir.path(), "x.json", &1u8).unwrap();
                assert_eq!(events.next(far).await.unwrap(), Wake::Changed);
            }
            nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
            assert_eq!(events.next(far).await.unwrap(), Wake::Signals(vec![Signal::Reload]));
            assert_eq!(events.next(Some(Instant::now())).await.unwrap(), Wake::Deadline);
        });
    }
}
