//! Which finished jobs stay.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::{Duration, SystemTime};

use agent::files;
use contract::job::JobEnd;

use super::{Jobs, Record, name};
use crate::error::{Result, io_error};

/// A job that has just ended stays so long whatever is configured: a follower may have lost its connection.
const TO_BE_READ: Duration = Duration::from_secs(600);

/// What the configuration says.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// So many with a result of each project, and as many without.
    pub per_project: u32,
    /// None for longer than this; `None`: by their number alone.
    pub age: Option<Duration>,
}

impl Jobs {
    /// Removes finished jobs but those that `keep` keeps and those in `pinned`. Failed ones never push out a result.
    ///
    /// # Errors
    /// When a folder cannot be removed.
    pub fn prune(&self, keep: Keep, pinned: &BTreeSet<String>) -> Result<()> {
        let mut seen: BTreeMap<(String, bool), u32> = BTreeMap::new();
        let ids = self.ids()?;
        // Its id keeps the next ones growing.
        let newest = ids.last().cloned();
        for id in ids.into_iter().rev() {
            let dir = self.dir.join(&id);
            let exit = dir.join(name::EXIT);
            let Ok(Some(end)) = files::read_json::<JobEnd>(&exit) else { continue };
            let project =
                files::read_json::<Record>(&dir.join(name::REQUEST))?.map(|record| record.request.project);
            let count = seen.entry((project.unwrap_or_default(), end.code == 0)).or_default();
            *count += 1;
            let age = fs::metadata(&exit).and_then(|meta| meta.modified()).ok();
            // A clock that was set back makes it no older.
            let age = age.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default();
            let goes = *count > keep.per_project.max(1) || keep.age.is_some_and(|most| age > most);
            if goes && age >= TO_BE_READ && !pinned.contains(&id) && newest.as_ref() != Some(&id) {
                fs::remove_dir_all(&dir).map_err(io_error("remove", &dir))?;
            }
        }
        Ok(())
    }
}
