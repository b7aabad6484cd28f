//! What `serve` holds, and what clients ask of it.

use std::collections::{BTreeSet, VecDeque};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use agent::config::Watched;
use agent::control::Got;
use agent::files;
use agent::paths::Paths;
use agent::status::{Reporter, chain};
use agent::wait::Waiter;
use contract::exit::Exit;
use contract::handshake::{Life, Session, UserActivity, file};
use contract::job::LostJob;

use super::CONTAINER;
use super::admission::Admission;
use super::connection::{Connection, State};
use super::door::Door;
use super::memory::OwnMemory;
use super::refusal;
use super::room::Healing;
use crate::Place;
use crate::activity::Activity;
use crate::control::{Reply, Request};
use crate::error::Error;
use crate::hold::Holding;
use crate::job::{Jobs, Keep, Prepared, Running};
use crate::project::{self, Links, Project};
use crate::session;
use crate::ssh::{self, Sshd};

/// Longest command that `status` shows, bytes.
const SHOWN: usize = 80;
/// More clients at once than anybody has; a runaway loop of one must not use up our descriptors.
const CONNECTIONS_MAX: usize = 4000;

/// Why and until when we are leaving.
#[derive(Debug, Clone)]
pub(super) struct Leaving {
    /// Nothing is waited for after this.
    pub(super) deadline: Instant,
    /// For jobs that are cut short.
    pub(super) reason: String,
    /// Sessions have been told and jobs are being ended.
    pub(super) told: bool,
}

/// The agent, serving.
pub(super) struct Server<'a> {
    pub(super) place: &'a Place,
    pub(super) life: &'a Life,
    pub(super) config: Watched,
    pub(super) reporter: &'a mut Reporter,
    pub(super) waiter: Waiter<'a>,
    pub(super) listener: UnixListener,
    pub(super) connections: Vec<Connection>,
    pub(super) jobs: Vec<Running>,
    /// Those that wait for their turn.
    pub(super) queue: VecDeque<Prepared>,
    /// Those that have ended because the disk was full.
    pub(super) healing: Vec<Healing>,
    /// The last collections: when, in seconds since the epoch, and what they freed. The newest first.
    pub(super) collections: Vec<(u64, u64)>,
    /// What ran when the `serve` before this one was ended.
    pub(super) lost: Vec<LostJob>,
    pub(super) sshd: Option<Sshd>,
    /// Whether it lets anybody in.
    pub(super) door: Door,
    pub(super) admission: Admission,
    pub(super) acknowledged: u64,
    pub(super) leaving: Option<Leaving>,
    /// When it was last looked what is in use, by the monotonic clock.
    pub(super) looked: u64,
    /// When it was last asked to tidy up, by the same clock.
    pub(super) tidied: u64,
    /// What sessions do.
    pub(super) activity: Activity,
    /// What sessions and jobs have of it.
    pub(super) memory: OwnMemory,
    /// Somebody's wish that the builder stays.
    pub(super) hold: Holding,
    /// Who has a terminal open has been told of this stop.
    pub(super) told: bool,
    last_work: u64,
}

impl<'a> Server<'a> {
    pub(super) fn new(
        place: &'a Place,
        life: &'a Life,
        config: Watched,
        reporter: &'a mut Reporter,
        waiter: Waiter<'a>,
        listener: UnixListener,
        sshd: Option<ssh::Prepared>,
    ) -> Self {
        Self {
            place,
            life,
            config,
            reporter,
            waiter,
            listener,
            connections: Vec::new(),
            jobs: Vec::new(),
            queue: VecDeque::new(),
            healing: Vec::new(),
            collections: Vec::new(),
            lost: Vec::new(),
            sshd: sshd.clone().map(Sshd::start),
            door: Door::new(sshd),
            admission: Admission::Open,
            acknowledged: 0,
            leaving: None,
            looked: 0,
            tidied: 0,
            activity: Activity::default(),
            memory: OwnMemory::of(agent::cgroup::ROOT.as_ref()),
            hold: Holding::of(place, life),
            told: false,
            last_work: 0,
        }
    }

    pub(super) fn paths(&self) -> &'a Paths {
        &self.place.paths
    }

    pub(super) fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.connections.iter().filter_map(|c| match &c.state {
            State::Session(session) => Some(session),
            _ => None,
        })
    }

    /// Of jobs that run or wait for their turn. Not of those that wait for a collection: it may take all that they have left.
    fn job_ids(&self) -> impl Iterator<Item = &String> {
        self.jobs.iter().map(|job| &job.id).chain(self.queue.iter().map(|job| &job.id))
    }

    /// Sessions and jobs.
    pub(super) fn work(&self) -> u32 {
        u32::try_from(self.sessions().count() + self.jobs.len() + self.queue.len()).unwrap_or(u32::MAX)
    }

    /// Something began or ended.
    pub(super) fn publish(&mut self, work: bool) {
        if work {
            self.last_work = agent::unix_now();
        }
        let activity = UserActivity {
            life: self.life.clone(),
            sessions: self.sessions().cloned().map(|session| self.with_doing(session)).collect(),
            jobs: self.job_ids().cloned().collect(),
            lost: self.lost.clone(),
            last_work: self.last_work,
            detached: self.activity.detached().map(str::to_owned),
            last: self.activity.last().cloned(),
            sshd_down: self.sshd.as_ref().is_some_and(|sshd| sshd.pid().is_none()) && !self.door.is_shut(),
            hold: self.hold.current(),
        };
        let dir = self.paths().run_dir(CONTAINER);
        if let Err(error) = files::write_json(&dir, file::ACTIVITY, &activity) {
            tracing::error!(error = %chain(&error), "activity not published");
        }
    }

    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if self.connections.len() >= CONNECTIONS_MAX {
                tracing::warn!("too many connections: one is turned away");
                continue;
            }
            match Connection::new(stream) {
                Ok(connection) => self.connections.push(connection),
                Err(error) => tracing::debug!(error = %error, "a client went before it was heard"),
            }
        }
    }

    /// A connection can be read.
    pub(super) fn hear(&mut self, index: usize) {
        match self.connections[index].read() {
            Got::Nothing => {}
            Got::Request(request) => self.decide(index, request),
            Got::Nonsense(_) | Got::End => {
                let gone = self.connections.swap_remove(index);
                if let State::Session(session) = gone.state {
                    self.activity.end(session.pid, &self.config.config().shutdown);
                    tracing::info!(pid = session.pid, kind = ?session.kind, "session ended");
                    self.publish(true);
                }
            }
        }
    }

    fn decide(&mut self, index: usize, request: Request) {
        match (&self.admission, &request) {
            // Neither is new work.
            (_, Request::Cancel { .. } | Request::Prune { .. } | Request::Release) | (Admission::Open, _) => {
                self.admit(index, request)
            }
            (Admission::Asked { .. }, _) => {
                let connection = &mut self.connections[index];
                connection.say(&Reply::Wait);
                connection.state = State::Waiting(request);
            }
            (Admission::Closed { reason } | Admission::Stopped { reason }, _) => {
                let message = format!("the builder is stopping ({reason}): nothing new is taken");
                self.turn_away(index, &request, &Error::Stopping(message));
            }
        }
    }

    fn turn_away(&mut self, index: usize, request: &Request, error: &Error) {
        if matches!((request, error), (Request::Session { .. }, Error::Stopping(_))) {
            refusal::tell(&self.place.paths.proc, self.connections[index].pid);
        }
        self.refuse(index, error);
    }

    pub(super) fn refuse(&mut self, index: usize, error: &Error) {
        let exit = match error.exit() {
            Exit::Stopping => Exit::Stopping,
            Exit::NoRoom => Exit::NoRoom,
            Exit::Usage => Exit::Usage,
            _ => Exit::ChildFailed,
        };
        let connection = &mut self.connections[index];
        connection.say(&Reply::Refused { exit, message: chain(error) });
        connection.state = State::Answered;
    }

    /// The monitor has decided: whoever waits comes in, or is told why not.
    pub(super) fn decide_waiting(&mut self) {
        for index in 0..self.connections.len() {
            if !matches!(self.connections[index].state, State::Waiting(_)) {
                continue;
            }
            let state = std::mem::replace(&mut self.connections[index].state, State::New);
            if let State::Waiting(request) = state {
                self.decide(index, request);
            }
        }
    }

    fn admit(&mut self, index: usize, request: Request) {
        if let Some(error) = self.no_room(&request).or_else(|| self.no_daemon(&request)) {
            return self.turn_away(index, &request, &error);
        }
        match request {
            Request::Session { kind, command } => {
                let connection = &mut self.connections[index];
                let (pid, since) = (connection.pid, agent::unix_now());
                self.activity.begin(pid, kind, &command, &self.config.config().shutdown);
                let command = session::shortened(command, SHOWN);
                let session = Session { pid, kind, command, since, doing: None };
                tracing::info!(pid = session.pid, ?kind, "session begins");
                connection.state = State::Session(session);
                // Published first: who reads that it is in finds it counted.
                self.publish(true);
                self.connections[index].say(&Reply::Admitted);
            }
            Request::Build(request) => self.build(index, request),
            Request::Cancel { id } => self.cancel(index, &id),
            Request::Hold { seconds, reason, by } => {
                let held = self.hold.set(seconds, reason, by);
                self.held(index, held);
            }
            Request::Release => {
                let released = self.hold.release();
                self.held(index, released);
            }
            Request::Prune { project } => {
                self.answer(index, &Reply::Admitted);
                self.prune(&project);
            }
        }
    }

    pub(super) fn answer(&mut self, index: usize, reply: &Reply) {
        let connection = &mut self.connections[index];
        connection.say(reply);
        connection.state = State::Answered;
    }

    /// Removes what is old, in a thread: deleting a tree takes time.
    pub(super) fn prune(&self, project: &str) {
        let paths = self.paths().clone();
        let user = self.config.config().user.clone();
        let Ok(project) = Project::new(&paths.projects(), project) else { return };
        let running = self.jobs.iter().map(|job| (&job.project, job.generation));
        let waiting = self.queue.iter().map(|job| (&job.project, job.generation));
        let in_project = running.chain(waiting).filter(|(other, _)| other.name() == project.name());
        let generations: BTreeSet<u64> = in_project.map(|(_, generation)| generation).collect();
        let keep = Keep { per_project: user.keep_jobs, age: user.keep_jobs_for };
        let spawned = std::thread::Builder::new().name("prune".into()).spawn(move || {
            let done =
                project::prune(&project, user.keep_generations, &generations, &paths.proc).and_then(|gone| {
                    if !gone.is_empty() {
                        tracing::info!(project = project.name(), ?gone, "old trees removed");
                    }
                    let linked = Project::all(&paths.projects())?.iter().map(|p| Links::of(p).job).collect();
                    Jobs::of(&paths).prune(keep, &linked)
                });
            if let Err(error) = done {
                tracing::warn!(error = %chain(&error), "old trees or jobs are not removed");
            }
        });
        if let Err(error) = spawned {
            tracing::warn!(error = %error, "old trees and jobs stay");
        }
    }
}
