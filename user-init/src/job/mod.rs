//! Jobs: builds that are children of `serve` and not of the connection that asked. `JOBS/ID/` holds `request.json`, the log
//! (`log`), standard output once it has a process (`out`), the GC roots (`result*`) and, once it has ended, `exit.json`.

mod command;
mod follow;
mod keep;
mod killed;
mod lead;
mod run;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use agent::files;
use agent::paths::Paths;
use contract::job::{BuildRequest, JobEnd, JobInfo, LostJob};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};
use lead::Leader;

pub use command::arguments;
pub use follow::follow;
pub use keep::Keep;
pub use run::{Ending, Prepared, Running};

/// File names in a job's folder.
mod name {
    pub(super) const REQUEST: &str = "request.json";
    pub(super) const LOG: &str = "log";
    pub(super) const OUT: &str = "out";
    pub(super) const EXIT: &str = "exit.json";
    pub(super) const RESULT: &str = "result";
}

/// Exit code of a job whose end nobody saw: as of one that was killed.
const CODE_LOST: i32 = 137;
/// Jobs that are named to somebody who has named one that is not there.
const NAMED: usize = 5;

/// `request.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    request: BuildRequest,
    generation: u64,
    started: u64,
    /// Absent in what an earlier version wrote.
    #[serde(default)]
    leader: Option<Leader>,
}

/// All jobs.
#[derive(Debug, Clone)]
pub struct Jobs {
    dir: PathBuf,
    paths: Paths,
}

impl Jobs {
    /// Those of this home.
    #[must_use]
    pub fn of(paths: &Paths) -> Self {
        Self { dir: paths.jobs(), paths: paths.clone() }
    }

    /// The folder of a job that exists.
    ///
    /// # Errors
    /// When there is none; says which there are.
    pub fn folder(&self, id: &str) -> Result<PathBuf> {
        if let Some(dir) = self.existing(id) {
            return Ok(dir);
        }
        let newest: Vec<String> = self.ids()?.into_iter().rev().take(NAMED).collect();
        let there = match newest.as_slice() {
            [] => "it has built nothing yet".to_owned(),
            ids => format!("its newest are {}", ids.join(", ")),
        };
        Err(Error::NotFound(format!("there is no build {id:?} in the builder (any more); {there}")))
    }

    fn existing(&self, id: &str) -> Option<PathBuf> {
        let fits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let dir = self.dir.join(id);
        (fits && dir.join(name::REQUEST).is_file()).then_some(dir)
    }

    /// Ids, oldest first.
    fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("read", &self.dir)(e)),
        };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|id| self.existing(id).is_some()).collect();
        ids.sort_by_key(|id| age(id));
        Ok(ids)
    }

    /// A new job's id and folder: its number is one more than any that is there.
    fn create(&self, record: &Record) -> Result<(String, PathBuf)> {
        fs::create_dir_all(&self.dir).map_err(io_error("make", &self.dir))?;
        let newest = self.ids()?.pop().and_then(|id| id.parse::<u64>().ok());
        for number in newest.unwrap_or(0).saturating_add(1).. {
            let id = number.to_string();
            let dir = self.dir.join(&id);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    let log = dir.join(name::LOG);
                    File::create_new(&log).map_err(io_error("create", &log))?;
                    files::write_json(&dir, name::REQUEST, record)?;
                    return Ok((id, dir));
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error("make", &dir)(e)),
            }
        }
        Err(Error::NotFound("no number is left for a job".into()))
    }

    /// How the job in `dir` has ended; nothing while it runs.
    fn end(&self, dir: &Path) -> Result<Option<JobEnd>> {
        let written = || files::read_json::<JobEnd>(&dir.join(name::EXIT));
        if let Some(end) = written()? {
            return Ok(Some(end));
        }
        let leader = files::read_json::<Record>(&dir.join(name::REQUEST))?.and_then(|record| record.leader);
        if leader.is_none_or(|leader| leader.lives(&self.paths)) {
            return Ok(None);
        }
        // It may have written that as its last, between our looks.
        Ok(Some(written()?.unwrap_or_else(lost)))
    }

    /// All jobs, newest first.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn list(&self) -> Result<Vec<JobInfo>> {
        let mut jobs = Vec::new();
        for id in self.ids()?.into_iter().rev() {
            let dir = self.dir.join(&id);
            let Some(record) = files::read_json::<Record>(&dir.join(name::REQUEST))? else { continue };
            let end = self.end(&dir)?;
            let ended = fs::metadata(dir.join(name::EXIT)).and_then(|meta| meta.modified()).ok();
            jobs.push(JobInfo {
                id,
                request: record.request,
                generation: record.generation,
                started: record.started,
                ended: ended.and_then(|at| Some(at.duration_since(UNIX_EPOCH).ok()?.as_secs())),
                log: fs::metadata(dir.join(name::LOG)).map_or(0, |meta| meta.len()),
                queued: end.is_none() && !dir.join(name::OUT).exists(),
                end,
            });
        }
        Ok(jobs)
    }

    /// Jobs without an end when `serve` starts: their processes ended with the container before. They get an end that says so,
    /// so that nobody takes them for running.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn close_lost(&self) -> Result<Vec<LostJob>> {
        let mut closed = Vec::new();
        for id in self.ids()? {
            let dir = self.dir.join(&id);
            if files::read_json::<JobEnd>(&dir.join(name::EXIT)).ok().flatten().is_some() {
                continue;
            }
            files::write_json(&dir, name::EXIT, &lost())?;
            let record = files::read_json::<Record>(&dir.join(name::REQUEST)).ok().flatten();
            closed.push(LostJob { id, what: record.map(|record| record.request.what()).unwrap_or_default() });
        }
        Ok(closed)
    }
}

/// For sorting: those of earlier versions, `SECONDS-N`, came before plain numbers.
fn age(id: &str) -> (bool, u64, u64) {
    match id.split_once('-') {
        Some((seconds, n)) => (false, seconds.parse().unwrap_or(0), n.parse().unwrap_or(0)),
        None => (true, id.parse().unwrap_or(0), 0),
    }
}

fn lost() -> JobEnd {
    JobEnd {
        code: CODE_LOST,
        cancelled: false,
        interrupted: true,
        note: Some("the builder ended while it ran".to_owned()),
        outputs: vec![],
    }
}

/// Lines of a file as the store paths that `--print-out-paths` wrote.
fn outputs(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(name::OUT)).unwrap_or_default();
    text.lines().filter(|l| l.starts_with('/')).map(str::to_owned).collect()
}
