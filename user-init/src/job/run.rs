//! A job's life as `serve` leads it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::files;
use agent::out_of_memory::Before;
use contract::config::Config;
use contract::job::{BuildRequest, JobEnd, JobStarted};
use contract::places::Container;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;

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

/// Why a job is being ended before its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// `job cancel`.
    Cancelled,
    /// The builder leaves.
    Stopped(String),
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

/// Starts a build. All that can be refused is refused before a job exists.
///
/// # Errors
/// When there is nothing to build or `nix` cannot be started.
pub fn start(place: &Place, config: &Config, request: BuildRequest) -> Result<(Running, JobStarted)> {
    let paths = &place.paths;
    let project = Project::new(&paths.projects(), &request.project)?;
    let generation = project.pick(request.generation)?;
    let current = match project.current() {
        Some(current) if current != generation => project.generations()?.into_iter().find(|g| g.current),
        _ => None,
    };
    let tree = project.tree(generation);
    super::arguments(&request, &tree, &tree)?;
    let nix = environment::find(paths, "nix").ok_or_else(|| Error::Child("the image has no `nix`".into()))?;

    let jobs = Jobs::new(paths.jobs());
    let record = Record { request, generation, started: agent::unix_now() };
    let (id, dir) = jobs.create(&record)?;
    let running = spawn(place, config, &record.request, &project, generation, &nix, &id, &dir);
    match running {
        Ok(running) => {
            let started = JobStarted { id, generation, dir: tree.display().to_string(), current };
            Ok((running, started))
        }
        Err(e) => {
            // A job that never ran is none.
            let _ = fs::remove_dir_all(&dir);
            Err(e)
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the second half of `start`")]
fn spawn(
    place: &Place,
    config: &Config,
    request: &BuildRequest,
    project: &Project,
    generation: u64,
    nix: &std::path::Path,
    id: &str,
    dir: &std::path::Path,
) -> Result<Running> {
    let tree = project.tree(generation);
    let create = |name: &str| {
        let path = dir.join(name);
        File::create_new(&path).map_err(io_error("create", &path))
    };
    project::before_job(project, generation)?;
    let memory = Before::now(&place.paths).map_err(io_error("read", &place.paths.proc))?;
    let child = Command::new(nix)
        .args(super::arguments(request, &tree, &dir.join(name::RESULT))?)
        .current_dir(&tree)
        .env_clear()
        .envs(environment::variables(&place.paths, config))
        .stdin(Stdio::null())
        .stdout(create(name::OUT)?)
        .stderr(create(name::LOG)?)
        // A group of its own, so that a signal reaches all of it and none of ours reaches it.
        .process_group(0)
        .spawn()
        .map_err(|e| Error::Child(format!("{} cannot be started: {e}", nix.display())))?;
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or_default());
    let score = place.paths.proc.join(pid.to_string()).join("oom_score_adj");
    if let Err(error) = fs::write(&score, OOM_SCORE) {
        tracing::debug!(error = %error, job = id, "the job's memory score is not raised");
    }
    tracing::info!(job = id, project = project.name(), generation, from = request.from, "job started");
    Ok(Running {
        id: id.to_owned(),
        pid,
        project: project.clone(),
        generation,
        dir: dir.to_owned(),
        memory,
        ending: None,
        step: 0,
        next: None,
    })
}

impl Running {
    /// Asks it to end; the first reason stays.
    pub fn end(&mut self, why: Ending) {
        if self.ending.is_none() {
            self.ending = Some(why);
            self.advance();
        }
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
        let note = match &self.ending {
            Some(Ending::Stopped(why)) => Some(why.clone()),
            None if code != 0 => {
                self.memory.since(Container::User, killed::is_told(code, &self.dir.join(name::LOG)))
            }
            _ => None,
        };
        let cancelled = matches!(self.ending, Some(Ending::Cancelled));
        let end = JobEnd { code, cancelled, note, outputs: outputs(&self.dir) };
        tracing::info!(job = self.id, code, cancelled, "job ended");
        if let Err(error) = files::write_json(&self.dir, name::EXIT, &end) {
            tracing::error!(error = %agent::status::chain(&error), job = self.id, "the job's end is not recorded");
        }
    }
}
