//! The loop: what wakes `serve`, and when it ends.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use agent::files;
use agent::last_words;
use agent::published;
use agent::signals::Signal;
use agent::status::chain;
use agent::wait::Wake;
use contract::handshake::{Drain, Phase, StopAck, StopRequest, file};
use contract::places::Container;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::CONTAINER;
use super::admission::{Admission, Step};
use super::connection::State;
use super::server::{Leaving, Server};
use crate::control::Reply;
use crate::error::{Result, io_error};
use crate::job::{Ending, Jobs};
use crate::ssh;

/// What sessions and jobs get to end once it is final. Longer than a session gives its child.
const FAREWELL: Duration = Duration::from_secs(10);

impl Server<'_> {
    /// Serves until it is time to leave.
    ///
    /// # Errors
    /// When waiting itself fails.
    pub(super) fn serve(&mut self) -> Result<()> {
        // Whoever served before us has died, and what went on then is not known.
        self.activity.happened("start");
        // Before the lost jobs have an end: what a killed process of ours has published still names them.
        self.publish(false);
        self.lost = Jobs::of(self.paths()).close_lost()?;
        for job in &self.lost {
            tracing::warn!(job = job.id, what = job.what, "interrupted by the end of the builder");
        }
        if !self.lost.is_empty() {
            self.publish(false);
        }
        self.reporter.phase(Phase::Running, "serves sessions and jobs");
        last_words::recovered(self.paths(), CONTAINER);
        // Before the first look, so that nothing is missed between look and wait.
        self.watch()?;
        self.look();
        while !self.is_over() {
            let deadline = self.deadline();
            let mut fds: Vec<BorrowedFd<'_>> = vec![self.listener.as_fd()];
            fds.extend(self.connections.iter().map(AsFd::as_fd));
            let woken = self.waiter.wait_fds(deadline, &fds);
            drop(fds);
            match woken.map_err(io_error("wait in", &self.paths().run))? {
                Wake::Changed => {
                    self.watch()?;
                    self.look();
                }
                Wake::Signals(seen) => self.signalled(&seen),
                Wake::Fd(0) => self.accept(),
                Wake::Fd(n) => self.hear(n - 1),
                Wake::Deadline => {}
            }
            self.due();
        }
        if let Some(sshd) = &mut self.sshd {
            sshd.stop();
        }
        self.end_unfinished();
        files::withdraw(&self.paths().control_socket())?;
        Ok(())
    }

    /// Folders of others appear when they start.
    fn watch(&mut self) -> Result<()> {
        let paths = self.paths();
        let config = paths.config.parent().map(std::path::Path::to_owned);
        let others = [Container::Daemon, Container::Maintenance, Container::ShutdownMonitor];
        let others = others.map(|container| paths.run_dir(container));
        for dir in others.into_iter().chain(config) {
            self.waiter.watch_dir_if_there(&dir).map_err(io_error("watch", &dir))?;
        }
        Ok(())
    }

    /// Reads what others publish.
    fn look(&mut self) {
        let paths = self.paths();
        let path = paths.run_dir(Container::ShutdownMonitor).join(file::STOP);
        match files::read_live::<StopRequest>(&path, self.life) {
            Ok(request) => self.stop_request(request.as_ref()),
            Err(error) => tracing::warn!(error = %chain(&error), "the stop request is not understood"),
        }
        if self.leaving.is_some() {
            let drain: Option<Drain> = published::read(paths, self.life, Container::Daemon, file::DRAIN);
            if drain.is_some_and(|d| d.drained) {
                self.farewell("the daemon has stopped");
            }
        }
        self.announce();
        self.show_what_is_in_use();
        self.tidy();
        self.heal();
        self.reload();
    }

    fn reload(&mut self) {
        if !self.config.reload(self.reporter) {
            return;
        }
        if let Err(error) = ssh::write_config_keys(self.paths(), self.config.config()) {
            tracing::error!(error = %chain(&error), "the configuration's keys are not written");
        }
        // More may run at once now.
        self.start_queued();
    }

    fn stop_request(&mut self, request: Option<&StopRequest>) {
        let step = self.admission.apply(request);
        if step != Step::Nothing {
            // Before anything is counted: who comes after that waits outside.
            self.tend_door();
        }
        match step {
            Step::Nothing => {}
            Step::Acknowledge { generation } => self.acknowledge(generation),
            Step::Reopen | Step::Refuse => self.decide_waiting(),
            Step::Leave { reason } => {
                self.decide_waiting();
                self.farewell(&reason);
            }
        }
    }

    /// Once per question: a later count would be of another moment than the monitor thinks.
    fn acknowledge(&mut self, generation: u64) {
        if self.acknowledged == generation {
            return;
        }
        self.acknowledged = generation;
        let work = self.work_now().saturating_add(self.on_the_way());
        let ack = StopAck { life: self.life.clone(), generation, work };
        if let Err(error) = files::write_json(&self.paths().run_dir(CONTAINER), file::ACK, &ack) {
            tracing::error!(error = %chain(&error), "the stop is not acknowledged");
        }
    }

    fn signalled(&mut self, seen: &[Signal]) {
        for signal in seen {
            match signal {
                Signal::Child => self.reap(),
                Signal::Reload => self.reload(),
                Signal::Terminate => self.terminated(),
            }
        }
    }

    /// The pod is being stopped by somebody else: what runs goes on for its grace. A second time cuts it short.
    fn terminated(&mut self) {
        if self.leaving.is_some() {
            self.farewell("the builder was stopped without waiting");
            return;
        }
        if let Admission::Stopped { reason } = &self.admission {
            // What the monitor has decided, and an engine carries out: nobody works.
            let reason = reason.clone();
            return self.farewell(&reason);
        }
        let reason = "the builder is being stopped from outside";
        let grace = self.config.config().shutdown.grace;
        self.admission.close(reason);
        self.tend_door();
        self.decide_waiting();
        // The daemon takes no new clients by now.
        self.end_queued(reason);
        let reason = format!("{reason}, and its grace is over");
        self.leaving = Some(Leaving { deadline: Instant::now() + grace, reason, told: false });
        let message = format!(
            "waits for {} sessions and jobs, for {} at most",
            self.work(),
            contract::config::format_duration(grace)
        );
        tracing::info!("{message}");
        self.reporter.phase(Phase::Draining, message);
        // The daemon may be drained already.
        self.look();
    }

    /// No more waiting: sessions are told, jobs are ended, and whoever is left after [`FAREWELL`] is killed with the container.
    fn farewell(&mut self, reason: &str) {
        if self.leaving.as_ref().is_some_and(|l| l.told) {
            return;
        }
        tracing::info!(work = self.work(), "leaves: {reason}");
        self.admission.close(reason);
        self.tend_door();
        self.decide_waiting();
        self.leaving =
            Some(Leaving { deadline: Instant::now() + FAREWELL, reason: reason.to_owned(), told: true });
        let leave = Reply::Leave { message: format!("the builder stops: {reason}") };
        for connection in &mut self.connections {
            if matches!(connection.state, State::Session(_)) {
                connection.say(&leave);
            }
        }
        self.end_queued(reason);
        for job in &mut self.jobs {
            job.end(Ending::Stopped(format!("the builder stopped while it ran: {reason}")));
        }
    }

    fn is_over(&self) -> bool {
        let Some(leaving) = &self.leaving else { return false };
        // Without work there is nothing to wait for, told or not.
        self.work() == 0 || (leaving.told && Instant::now() >= leaving.deadline)
    }

    fn deadline(&self) -> Option<Instant> {
        let jobs = self.jobs.iter().filter_map(crate::job::Running::deadline);
        let sshd = self.sshd.as_ref().and_then(ssh::Sshd::deadline).filter(|_| self.door.is_open());
        jobs.chain(sshd)
            .chain(self.heal_deadline())
            .chain(self.activity.due())
            .chain(self.door.deadline())
            .chain(self.memory.deadline())
            .chain(self.leaving.as_ref().map(|l| l.deadline))
            .min()
    }

    /// Whatever has come due.
    fn due(&mut self) {
        let now = Instant::now();
        for job in &mut self.jobs {
            if job.deadline().is_some_and(|at| now >= at) {
                job.advance();
            }
        }
        if self.door.deadline().is_some_and(|at| now >= at) {
            self.open_door();
        }
        if self.door.is_open() && self.sshd.as_mut().is_some_and(ssh::Sshd::tick) {
            self.publish(false);
        }
        if self.heal_deadline().is_some_and(|at| now >= at) {
            self.heal();
        }
        self.look_at_sessions_if_due(now);
        self.look_at_memory();
        if let Some(leaving) = self.leaving.clone() {
            if !leaving.told && now >= leaving.deadline {
                self.farewell(&leaving.reason);
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            let pid = match status {
                WaitStatus::StillAlive => return,
                status => match status.pid() {
                    Some(pid) => pid,
                    None => return,
                },
            };
            if self.sshd.as_mut().is_some_and(|sshd| sshd.ended(pid, status)) {
                self.publish(false);
                continue;
            }
            if let Some(index) = self.jobs.iter().position(|j| j.pid == pid) {
                self.job_ended(index, status);
            }
        }
    }

    fn job_ended(&mut self, index: usize, status: WaitStatus) {
        let job = self.jobs.swap_remove(index);
        let beside = |other: &crate::job::Running| {
            other.project.name() == job.project.name() && other.generation == job.generation
        };
        let alone = !self.jobs.iter().any(beside);
        let project = job.project.name().to_owned();
        self.activity.happened("job");
        // First: whoever is told of its end must not find it among those that run.
        self.publish(true);
        self.conclude(job, status, alone);
        self.start_queued();
        self.prune(&project);
    }

    /// Jobs that did not end in time: killed now, so that what their end says is true.
    fn end_unfinished(&mut self) {
        self.heal();
        for job in std::mem::take(&mut self.jobs) {
            let _ = nix::sys::signal::killpg(job.pid, nix::sys::signal::Signal::SIGKILL);
            let status = waitpid(job.pid, None).unwrap_or(WaitStatus::Signaled(
                job.pid,
                nix::sys::signal::Signal::SIGKILL,
                false,
            ));
            job.finish(status, false);
        }
    }
}
