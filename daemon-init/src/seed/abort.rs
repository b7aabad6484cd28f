//! A way to end seeding from another thread.

use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use super::error::StoreError;

/// Seeding looks at it between files; [`Abort::trigger`] also ends a child that is being waited for, so that
/// nobody has to poll.
#[derive(Debug, Default)]
pub struct Abort {
    asked: AtomicBool,
    child: Mutex<Option<Pid>>,
}

impl Abort {
    /// Not asked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends whatever runs under this, soon. May be called from any thread, and more than once.
    pub fn trigger(&self) {
        // Under the lock: a child that is started at this moment sees the flag, or is seen here.
        let child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        self.asked.store(true, Ordering::SeqCst);
        if let Some(pid) = *child {
            // It may have ended by itself, which is as good.
            let _ = kill(pid, Signal::SIGTERM);
        }
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_triggered(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// For the `?` between two files.
    ///
    /// # Errors
    /// [`StoreError::Aborted`] after [`Self::trigger`].
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if self.is_triggered() { Err(StoreError::Aborted) } else { Ok(()) }
    }

    /// Waits for the child, which [`Self::trigger`] ends meanwhile.
    pub(crate) fn wait(&self, child: &mut Child) -> std::io::Result<ExitStatus> {
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(std::io::Error::other)?);
        {
            let mut slot = self.child.lock().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(pid);
            if self.asked.load(Ordering::SeqCst) {
                let _ = kill(pid, Signal::SIGTERM);
            }
        }
        // Left unreaped until it is out of the slot: its number cannot be somebody else's while it stands there.
        let ended = loop {
            match waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) {
                Err(nix::errno::Errno::EINTR) => {}
                other => break other,
            }
        };
        *self.child.lock().unwrap_or_else(PoisonError::into_inner) = None;
        ended?;
        child.wait()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn trigger_ends_the_child_that_is_waited_for() {
        let abort = Abort::new();
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| abort.wait(&mut child).unwrap());
            abort.trigger();
            assert!(!waiting.join().unwrap().success());
        });
        assert!(matches!(abort.check(), Err(StoreError::Aborted)));
    }
}
