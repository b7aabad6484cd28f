//! sshd's life as `serve`'s child.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::Prepared;

/// The longest pause before another start.
const LONGEST: Duration = Duration::from_secs(60);
/// Who lived so long has not failed to start.
const WELL: Duration = Duration::from_secs(60);

/// The listener. Sessions are processes of their own and outlive it.
#[derive(Debug)]
pub struct Sshd {
    prepared: Prepared,
    pid: Option<Pid>,
    since: Instant,
    failures: u32,
    restart_at: Option<Instant>,
}

impl Sshd {
    /// Starts it.
    #[must_use]
    pub fn start(prepared: Prepared) -> Self {
        let mut sshd = Self { prepared, pid: None, since: Instant::now(), failures: 0, restart_at: None };
        sshd.spawn();
        sshd
    }

    fn spawn(&mut self) {
        self.since = Instant::now();
        let child = Command::new(&self.prepared.program)
            .args(["-D", "-e", "-f"])
            .arg(&self.prepared.config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn();
        match child {
            Ok(child) => {
                self.pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
                self.restart_at = None;
            }
            Err(error) => {
                tracing::error!(error = %error, "sshd cannot be started");
                self.pause();
            }
        }
    }

    fn pause(&mut self) {
        self.pid = None;
        let pause = Duration::from_secs(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.restart_at = Some(Instant::now() + pause);
    }

    /// True if `pid` was it; it is started again after a pause that grows.
    pub fn ended(&mut self, pid: Pid, status: WaitStatus) -> bool {
        if self.pid != Some(pid) {
            return false;
        }
        if self.since.elapsed() >= WELL {
            self.failures = 0;
        }
        self.pause();
        tracing::warn!(?status, failures = self.failures, "sshd ended; it is started again");
        true
    }

    /// Of the listener; `None` while it is yet to be started again.
    #[must_use]
    pub fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// When [`Self::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.restart_at
    }

    /// Starts it again if it is time; true if it is there now.
    pub fn tick(&mut self) -> bool {
        if self.restart_at.is_none_or(|at| Instant::now() < at) {
            return false;
        }
        self.spawn();
        self.pid.is_some()
    }

    /// Ends the listener, for good.
    pub fn stop(&mut self) {
        self.restart_at = None;
        if let Some(pid) = self.pid.take() {
            // It may have ended by itself.
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
}
