//! When checkpoints are taken: some time after the first thing that has appeared in the store, and soon once nobody works any more.
//! While nothing appears there is neither a timer nor a wake-up.

use std::fs;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant, SystemTime};

use agent::status::chain;
use agent::wait::Waiter;

use super::Checkpoints;
use crate::seed::error::StoreError;

/// A builder that has just become idle may be at work again in a moment.
const SETTLE: Duration = Duration::from_secs(10);
/// A time of change that is younger than this could also be that of a change that is yet to come.
const COARSE: Duration = Duration::from_secs(1);
/// The last one, when the builder ends: beside neighbours who write a lot it may take its time, and the engine has little.
const LAST: Duration = Duration::from_secs(20);

/// Takes them at the right time, each on a thread of its own: the disk may be busy with the writes of others.
pub struct Keeper {
    checkpoints: Checkpoints,
    /// When the store's folder had changed last, when the last one was begun.
    seen: Option<SystemTime>,
    due: Option<Instant>,
    /// With the moment at which its end is asked for at the latest: a success changes a file, which is told, a failure does not.
    running: Option<(Receiver<Result<(), StoreError>>, Instant)>,
    failed: bool,
}

impl Keeper {
    /// Takes none yet.
    #[must_use]
    pub fn new(checkpoints: Checkpoints) -> Self {
        Self { checkpoints, seen: None, due: None, running: None, failed: false }
    }

    /// Has the kernel tell of what appears.
    ///
    /// # Errors
    /// When the store's folder cannot be watched.
    pub fn watch(&mut self, waiter: &mut Waiter<'_>) -> io::Result<()> {
        waiter.watch_dir_once(&self.checkpoints.store())
    }

    /// Called whenever something may have changed, and when [`Self::deadline`] has passed. `busy`: somebody works, so that the next
    /// one can wait for `interval`.
    ///
    /// # Errors
    /// When the store's folder cannot be watched.
    pub fn look(&mut self, waiter: &mut Waiter<'_>, busy: bool, interval: Duration) -> io::Result<()> {
        let now = Instant::now();
        self.hear(now, interval);
        let changed = self.seen.is_none() || self.changed() != self.seen;
        if changed {
            let at = now + if busy { interval } else { SETTLE.min(interval) };
            // Not before a failure's pause is over.
            self.due = Some(self.due.map_or(at, |due| if self.failed { due } else { due.min(at) }));
        }
        if self.due.is_some_and(|due| due <= now) {
            self.due = None;
            if self.running.is_some() {
                self.due = Some(now + interval);
            } else {
                self.begin(waiter, now + interval)?;
            }
        }
        Ok(())
    }

    /// When to look even if nothing changes.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let heard = self.running.as_ref().map(|(_, at)| *at);
        self.due.into_iter().chain(heard).min()
    }

    /// The last one. `clean`: whoever wrote has ended. What is not done in time is not waited for.
    pub fn close(mut self, clean: bool) {
        let end = Instant::now() + LAST;
        let left = || end.saturating_duration_since(Instant::now());
        // Two at once would write the same file.
        let before = self.running.take().map_or(Ok(Ok(())), |(running, _)| running.recv_timeout(left()));
        match before.and_then(|_| self.spawn(clean).recv_timeout(left())) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!("the store is not known to be on disk: {}", chain(&error)),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                tracing::warn!(
                    "the disk did not take the store within {} s; should the machine go down, the next start verifies what is new",
                    LAST.as_secs()
                );
            }
        }
    }

    /// The end of one that is under way.
    fn hear(&mut self, now: Instant, interval: Duration) {
        let Some((running, at)) = &mut self.running else { return };
        let Ok(ended) = running.try_recv() else {
            // A slow disk.
            if *at <= now {
                *at = now + interval;
            }
            return;
        };
        self.running = None;
        match ended {
            Ok(()) => {
                self.failed = false;
                tracing::debug!("the store is on disk");
            }
            Err(error) => {
                tracing::error!("no checkpoint of the store, trying again: {}", chain(&error));
                (self.failed, self.seen, self.due) = (true, None, Some(now + interval));
            }
        }
    }

    /// What appears from here on is told again, and is what the next one is for.
    fn begin(&mut self, waiter: &mut Waiter<'_>, hear: Instant) -> io::Result<()> {
        self.watch(waiter)?;
        let fresh = |at: &SystemTime| at.elapsed().is_ok_and(|age| age > COARSE);
        self.seen = self.changed().filter(fresh);
        self.running = Some((self.spawn(false), hear));
        Ok(())
    }

    fn spawn(&self, clean: bool) -> Receiver<Result<(), StoreError>> {
        let (tell, told) = channel();
        let checkpoints = self.checkpoints.clone();
        std::thread::spawn(move || {
            // Nobody may listen any more.
            let _ = tell.send(checkpoints.take(clean));
        });
        told
    }

    fn changed(&self) -> Option<SystemTime> {
        fs::metadata(self.checkpoints.store()).and_then(|meta| meta.modified()).ok()
    }
}
