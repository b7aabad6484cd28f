//! Jobs as `serve` leads them: so many run at once, the others wait in the order in which they were asked for.

use agent::status::chain;
use contract::handshake::SessionKind;

use super::server::Server;
use crate::control::{Reply, Request};
use crate::error::Error;
use crate::job::{Ending, Jobs, Prepared};

impl Server<'_> {
    /// Why what wants the daemon is not taken. The client has not looked before it asked: what it hears makes it wait, or start what was
    /// killed. Who comes by SSH may have come because there is no daemon.
    pub(super) fn no_daemon(&self, request: &Request) -> Option<Error> {
        let wants_it =
            matches!(request, Request::Build(_) | Request::Session { kind: SessionKind::Exec, .. });
        let missing = wants_it && agent::ready::published(self.paths(), self.life).is_none();
        missing.then(|| Error::Stopping("the daemon does not serve at the moment".into()))
    }

    /// A build was asked for.
    pub(super) fn build(&mut self, index: usize, request: contract::job::BuildRequest) {
        let (job, mut started) = match Prepared::new(self.place, request) {
            Ok(prepared) => prepared,
            Err(error) => return self.refuse(index, &error),
        };
        if self.has_room() {
            match job.spawn(self.place, self.config.config()) {
                Ok(running) => self.jobs.push(running),
                Err(error) => {
                    job.forget();
                    return self.refuse(index, &error);
                }
            }
        } else {
            started.queued = u32::try_from(self.jobs.len() + self.queue.len()).unwrap_or(u32::MAX);
            tracing::info!(job = job.id, behind = started.queued, "job queued");
            self.queue.push_back(job);
        }
        self.publish(true);
        self.answer(index, &Reply::Started(started));
    }

    fn has_room(&self) -> bool {
        let most = usize::try_from(self.config.config().user.max_running_jobs).unwrap_or(usize::MAX);
        self.jobs.len() < most
    }

    /// Whoever's turn it is now.
    pub(super) fn start_queued(&mut self) {
        let mut any = false;
        while self.leaving.is_none() && self.has_room() {
            let Some(job) = self.queue.pop_front() else { break };
            any = true;
            match job.spawn(self.place, self.config.config()) {
                Ok(running) => self.jobs.push(running),
                Err(error) => job.finish(Ending::NotStarted(chain(&error))),
            }
        }
        if any {
            self.publish(true);
        }
    }

    /// Ends a job, or takes it out of the queue.
    pub(super) fn cancel(&mut self, index: usize, id: &str) {
        if let Some(job) = self.jobs.iter_mut().find(|job| job.id == id) {
            job.end(Ending::Cancelled);
        } else if let Some(at) = self.queue.iter().position(|job| job.id == id) {
            if let Some(job) = self.queue.remove(at) {
                self.publish(true);
                job.finish(Ending::Cancelled);
            }
        } else if let Err(error) = Jobs::of(self.paths()).folder(id) {
            return self.refuse(index, &error);
        }
        // To cancel what has just ended is no mistake.
        self.answer(index, &Reply::Admitted);
    }

    /// The builder leaves: nothing begins any more.
    pub(super) fn end_queued(&mut self, why: &str) {
        let queue = std::mem::take(&mut self.queue);
        if queue.is_empty() {
            return;
        }
        self.publish(true);
        for job in queue {
            job.finish(Ending::Stopped(format!("the builder stopped before it began: {why}")));
        }
    }
}
