//! What sessions do, looked at, told, and counted when the monitor asks; and what the monitor has to say to who is there.

use std::collections::BTreeSet;
use std::time::Instant;

use agent::published;
use agent::status::chain;
use contract::handshake::{IdleStatus, Session, file};
use contract::places::Container;
use nix::unistd::Pid;

use super::connection::State;
use super::server::Server;
use crate::control::Reply;
use crate::error::{Result, io_error};
use crate::ssh::Sshd;

impl Server<'_> {
    /// As it is told.
    pub(super) fn with_doing(&self, session: Session) -> Session {
        let doing = self.activity.doing(session.pid).map(str::to_owned);
        Session { doing, ..session }
    }

    /// Looks what sessions do, and tells if that is something new.
    pub(super) fn look_at_sessions(&mut self) {
        let paths = self.paths();
        let jobs = self.jobs.iter().map(|job| job.pid);
        let sshd = self.sshd.as_ref().and_then(Sshd::pid);
        let elsewhere: BTreeSet<i32> = jobs.chain(sshd).map(Pid::as_raw).collect();
        let shutdown = self.config.config().shutdown.clone();
        match self.activity.look(paths, &elsewhere, &shutdown).map_err(io_error("look at", &paths.proc)) {
            Ok(true) => self.publish(false),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %chain(&error), "what sessions do is not known"),
        }
    }

    pub(super) fn look_at_sessions_if_due(&mut self, now: Instant) {
        if self.activity.due().is_some_and(|at| now >= at) {
            self.look_at_sessions();
        }
    }

    /// Ends the largest process before the kernel ends them all.
    pub(super) fn look_at_memory(&mut self) {
        let works = self.work() > 0 || self.activity.detached().is_some();
        let sshd = self.sshd.as_ref().and_then(Sshd::pid).map(Pid::as_raw);
        self.memory.look(&self.place.paths, self.life, works, sshd.as_slice());
    }

    /// What would be lost if the builder stopped now: jobs, and sessions that do something. One that has just begun does.
    pub(super) fn work_now(&mut self) -> u32 {
        self.look_at_sessions();
        let work = self.activity.working() + self.jobs.len() + self.queue.len() + self.healing.len();
        u32::try_from(work).unwrap_or(u32::MAX)
    }

    /// Tells who has a terminal open that the builder is about to stop: once, unless it stays after all.
    pub(super) fn announce(&mut self) {
        let idle =
            published::read::<IdleStatus>(self.paths(), self.life, Container::ShutdownMonitor, file::IDLE);
        let Some(at) = idle.filter(|idle| idle.soon).and_then(|idle| idle.stops_at) else {
            self.told = false;
            return;
        };
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        let left = at.saturating_sub(agent::unix_now());
        let message = format!(
            "nothing has gone on here for a while: the builder stops in {left} s. A key pressed here keeps it; the \
             next command starts it again."
        );
        self.activity.disturb_terminals();
        for connection in &mut self.connections {
            if matches!(connection.state, State::Session(_)) {
                connection.say(&Reply::Notice { message: message.clone() });
            }
        }
    }

    /// A wish was heard, or could not be kept.
    pub(super) fn held(&mut self, index: usize, done: Result<()>) {
        match done {
            Ok(()) => {
                self.publish(false);
                self.answer(index, &Reply::Admitted);
            }
            Err(error) => self.refuse(index, &error),
        }
    }
}
