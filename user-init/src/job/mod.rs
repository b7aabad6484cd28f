//! Jobs: builds that are children of `serve` and not of the connection that asked. `JOBS/ID/` holds `request.json`, the log
//! (`log`), standard output (`out`), the GC roots (`result*`) and, once it has ended, `exit.json`.

mod command;
mod follow;
mod killed;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::files;
use contract::job::{BuildRequest, JobEnd, JobInfo};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};

pub use command::arguments;
pub use follow::follow;
pub use run::{Ending, Running, start};

/// File names in a job's folder.
mod name {
    pub(super) const REQUEST: &str = "request.json";
    pub(super) const LOG: &str = "log";
    pub(super) const OUT: &str = "out";
    pub(super) const EXIT: &str = "exit.json";
    pub(super) const RESULT: &str = "result";
}

/// A job that has just ended stays so long whatever is configured: a follower may have lost its connection.
const TO_BE_READ: Duration = Duration::from_secs(600);
/// Exit code of a job whose end nobody saw: as of one that was killed.
const CODE_LOST: i32 = 137;

/// `request.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Record {
    request: BuildRequest,
    generation: u64,
    started: u64,
}

/// All jobs.
#[derive(Debug, Clone)]
pub struct Jobs {
    dir: PathBuf,
}

impl Jobs {
    /// Those in `dir`.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// The folder of a job that exists.
    ///
    /// # Errors
    /// When there is none.
    pub fn folder(&self, id: &str) -> Result<PathBuf> {
        let fits = !id.is_empty() && id.bytes().all(|b| b.is_ascii_digit() || b == b'-');
        let dir = self.dir.join(id);
        if fits && dir.join(name::REQUEST).is_file() {
            return Ok(dir);
        }
        Err(Error::NotFound(format!("there is no job {id:?} in the builder (any more)")))
    }

    /// Ids, oldest first.
    fn ids(&self) -> Result<Vec<String>> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(io_error("read", &self.dir)(e)),
        };
        let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
        let mut ids: Vec<String> = names.filter(|id| self.folder(id).is_ok()).collect();
        // Seconds, then a number: `1700000000-2` before `1700000000-10`.
        ids.sort_by_key(|id| {
            let (seconds, n) = id.split_once('-').unwrap_or((id, "0"));
            (seconds.parse::<u64>().unwrap_or(0), n.parse::<u64>().unwrap_or(0))
        });
        Ok(ids)
    }

    /// A new job's id and folder.
    fn create(&self, record: &Record) -> Result<(String, PathBuf)> {
        fs::create_dir_all(&self.dir).map_err(io_error("make", &self.dir))?;
        // Behind all of this second, so that ids grow and none comes back while its follower looks for it.
        let newest = self.ids()?.pop().and_then(|id| {
            let (seconds, n) = id.split_once('-')?;
            (seconds.parse() == Ok(record.started)).then(|| n.parse::<u32>().ok())?
        });
        for n in newest.unwrap_or(0).saturating_add(1).. {
            let id = format!("{}-{n}", record.started);
            let dir = self.dir.join(&id);
            match fs::create_dir(&dir) {
                Ok(()) => {
                    files::write_json(&dir, name::REQUEST, record)?;
                    return Ok((id, dir));
                }
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(io_error("make", &dir)(e)),
            }
        }
        Err(Error::NotFound("no number is left for a job".into()))
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
            let end = files::read_json::<JobEnd>(&dir.join(name::EXIT))?;
            jobs.push(JobInfo {
                id,
                request: record.request,
                generation: record.generation,
                started: record.started,
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
    pub fn close_lost(&self) -> Result<u32> {
        let mut lost = 0;
        for id in self.ids()? {
            let dir = self.dir.join(&id);
            if files::read_json::<JobEnd>(&dir.join(name::EXIT)).ok().flatten().is_some() {
                continue;
            }
            let note = Some("the builder ended while it ran".to_owned());
            files::write_json(
                &dir,
                name::EXIT,
                &JobEnd { code: CODE_LOST, cancelled: false, note, outputs: vec![] },
            )?;
            lost += 1;
        }
        Ok(lost)
    }

    /// Removes finished jobs but the newest `keep`, those in `pinned` and those whose results a project's links lead to.
    ///
    /// # Errors
    /// When a folder cannot be removed.
    pub fn prune(&self, keep: u32, pinned: &BTreeSet<String>) -> Result<()> {
        let finished: Vec<String> =
            self.ids()?.into_iter().filter(|id| self.dir.join(id).join(name::EXIT).exists()).collect();
        // The newest one's id keeps the next ones growing.
        let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
        for id in finished.iter().take(finished.len().saturating_sub(keep)) {
            let ended = fs::metadata(self.dir.join(id).join(name::EXIT)).and_then(|m| m.modified());
            let read = ended.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= TO_BE_READ));
            if read && !pinned.contains(id) {
                let dir = self.dir.join(id);
                fs::remove_dir_all(&dir).map_err(io_error("remove", &dir))?;
            }
        }
        Ok(())
    }
}

/// Lines of a file as the store paths that `--print-out-paths` wrote.
fn outputs(dir: &Path) -> Vec<String> {
    let text = fs::read_to_string(dir.join(name::OUT)).unwrap_or_default();
    text.lines().filter(|l| l.starts_with('/')).map(str::to_owned).collect()
}
