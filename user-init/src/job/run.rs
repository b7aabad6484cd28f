//! A job's life as `serve` leads it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::files;
use agent::out_of_memory::{Before, Cause};
use contract::config::Config;
use contract::job::{BuildRequest, JobEnd, JobStarted};
use contract::places::Container;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

use super::lead::Leader;
use super::{Jobs, Record, killed, name, outputs};
use crate::Place;
use crate::environment;
use crate::error::{Error, Result, io_error};
use crate::project::{self, Links, Project};

/// The kernel's out-of-memory killer takes a job before sshd, a shell or us.
const OOM_SCORE: &str = "500";
/// What is sent to a job that is to end, and how long each may take. Nix ends its build and says so on SIGINT.
const STEPS: [(Signal, Duration); 3] = [
    (Signal::SIGINT, Duration::from_secs(10)),
    (Signal::SIGTERM, Duration::from_secs(5)),
    (Signal::SIGKILL, Duration::from_secs(5)),
];

/// Exit code of a job that never had a process: as Nix's own when it is interrupted.
const CODE_UNSTARTED: i32 = 1;

/// Why a job is being ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// `job cancel`.
    Cancelled,
    /// The builder leaves.
    Stopped(String),
    /// It waited for its turn, and then could not begin.
    NotStarted(String),
    /// It has ended by itself for want of room; what came of that.
    Full(String),
}

/// A job that has a process.
#[derive(Debug)]
pub struct Running {
    /// Its id.
    pub id: String,
    /// Leader of its process group.
    pub pid: Pid,
    /// What it builds.
    pub project: Project,
    /// See `project`.
    pub generation: u64,
    dir: PathBuf,
    memory: Before,
    ending: Option<Ending>,
    step: usize,
    next: Option<Instant>,
}

/// A job that has a folder and no process yet.
#[derive(Debug)]
pub struct Prepared {
    /// Its id.
    pub id: String,
    /// What it builds.
    pub project: Project,
    /// See `project`.
    pub generation: u64,
    request: BuildRequest,
    dir: PathBuf,
}

impl Prepared {
    /// All that can be refused is refused before a job exists.
    ///
    /// # Errors
    /// When there is nothing to build, or no `nix`.
    pub fn new(place: &Place, request: BuildRequest) -> Result<(Self, JobStarted)> {
        let paths = &place.paths;
        let project = Project::new(&paths.projects(), &request.project)?;
        let generation = project.pick(request.generation)?;
        let current = match project.current() {
            Some(current) if current != generation => project.generations()?.into_iter().find(|g| g.current),
            _ => None,
        };
        let tree = project.tree(generation);
        super::arguments(&request, &tree, &tree)?;
        nix(place)?;
        let leader = Leader::me(paths);
        let record = Record { request, generation, started: agent::unix_now(), leader };
        let (id, dir) = Jobs::of(paths).create(&record)?;
        let started =
            JobStarted { id: id.clone(), generation, dir: tree.display().to_string(), current, queued: 0 };
        Ok((Self { id, project, generation, request: record.request, dir }, started))
    }

    /// Gives it a process.
    ///
    /// # Errors
    /// When `nix` cannot be started.
    pub fn spawn(&self, place: &Place, config: &Config) -> Result<Running> {
        let tree = self.project.tree(self.generation);
        let file = |name: &str, open: &mut OpenOptions| {
            let path = self.dir.join(name);
            open.open(&path).map_err(io_error("open", &path))
        };
        project::before_job(&self.project, self.generation)?;
        let nix = nix(place)?;
        let memory =
            Before::now(&place.paths, Container::User).map_err(io_error("read", &place.paths.proc))?;
        let child = Command::new(&nix)
            .args(super::arguments(&self.request, &tree, &self.dir.join(name::RESULT))?)
            .current_dir(&tree)
            .env_clear()
            .envs(environment::variables(&place.paths, config))
            .stdin(Stdio::null())
            .stdout(file(name::OUT, OpenOptions::new().write(true).create_new(true))?)
            .stderr(file(name::LOG, OpenOptions::new().append(true))?)
            // A group of its own, so that a signal reaches all of it and none of ours reaches it.
            .process_group(0)
            .spawn()
            .map_err(|e| Error::Child(format!("{} cannot be started: {e}", nix.display())))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
        let score = place.paths.proc.join(pid.to_string()).join("oom_score_adj");
        if let Err(error) = fs::write(&score, OOM_SCORE) {
            tracing::debug!(error = %error, job = self.id, "the job's memory score is not raised");
        }
        let (project, from) = (self.project.name(), &self.request.from);
        tracing::info!(job = self.id, project, generation = self.generation, from, "job started");
        Ok(Running {
            id: self.id.clone(),
            pid,
            project: self.project.clone(),
            generation: self.generation,
            dir: self.dir.clone(),
            memory,
            ending: None,
            step: 0,
            next: None,
        })
    }

    /// A job that never ran and that nobody was told of is none.
    pub fn forget(self) {
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            tracing::debug!(error = %error, job = self.id, "a job that was not started stays");
        }
    }

    /// Ends before it has run.
    pub fn finish(self, why: Ending) {
        let (cancelled, interrupted) = (why == Ending::Cancelled, matches!(why, Ending::Stopped(_)));
        let note = match why {
            Ending::Cancelled => None,
            Ending::Stopped(why) | Ending::NotStarted(why) | Ending::Full(why) => Some(why),
        };
        let end = JobEnd { code: CODE_UNSTARTED, cancelled, interrupted, note, outputs: Vec::new() };
        record(&self.id, &self.dir, &end);
    }
}

fn nix(place: &Place) -> Result<PathBuf> {
    environment::find(&place.paths, "nix").ok_or_else(|| Error::Child("the image has no `nix`".into()))
}

fn record(id: &str, dir: &Path, end: &JobEnd) {
    tracing::info!(job = id, code = end.code, state = end.state().name(), "job ended");
    if let Err(error) = files::write_json(dir, name::EXIT, end) {
        tracing::error!(error = %agent::status::chain(&error), job = id, "the job's end is not recorded");
    }
}

impl Running {
    /// Asks it to end; the first reason stays.
    pub fn end(&mut self, why: Ending) {
        if self.ending.is_none() {
            self.ending = Some(why);
            self.advance();
        }
    }

    /// Its log.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join(name::LOG)
    }

    /// Why it has ended; the first reason stays.
    pub fn explain(&mut self, why: Ending) {
        self.ending.get_or_insert(why);
    }

    /// When [`Self::advance`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// The next, stronger signal.
    pub fn advance(&mut self) {
        let (signal, patience) = STEPS[self.step.min(STEPS.len() - 1)];
        self.step += 1;
        self.next = Some(Instant::now() + patience);
        if let Err(error) = killpg(self.pid, signal) {
            tracing::debug!(error = %error, job = self.id, "not signalled");
        }
    }

    /// Its process has ended: writes `exit.json`. `alone`: no other job runs in the tree, so that links may stand in it again.
    pub fn finish(self, status: WaitStatus, alone: bool) {
        let code = match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => 128 + signal as i32,
            _ => super::CODE_LOST,
        };
        // What its group left behind has no job any more.
        let _ = killpg(self.pid, Signal::SIGKILL);
        let made = if code == 0 { Links::made_by(&self.id, &self.dir) } else { Links::default() };
        if let Err(error) = project::after_job(&self.project, self.generation, made, alone) {
            tracing::warn!(error = %agent::status::chain(&error), job = self.id, "`result` is not linked");
        }
        // What came to its end all the same is what it is.
        let ending = self.ending.filter(|_| code != 0);
        let cancelled = ending == Some(Ending::Cancelled);
        let (interrupted, note) = match ending {
            Some(Ending::Stopped(why)) => (true, Some(why)),
            Some(Ending::Full(why)) => (false, Some(why)),
            None if code != 0 => match self.memory.since(killed::is_told(code, &self.dir.join(name::LOG))) {
                Some(Cause::DaemonEnded(why)) => (true, Some(why)),
                Some(Cause::Memory(why)) => (false, Some(why)),
                None => (false, None),
            },
            _ => (false, None),
        };
        let outputs = outputs(&self.dir);
        record(&self.id, &self.dir, &JobEnd { code, cancelled, interrupted, note, outputs });
    }
}
