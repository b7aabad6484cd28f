//! Pushed trees. `projects/P/NNNNNN/` holds exactly what was pushed; what we know of it stands beside it, in `projects/P/.meta/`.

mod content;
mod id;
mod links;
mod present;
mod prune;
mod receive;

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use agent::files;
use contract::job::Generation;
use nix::fcntl::Flock;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, io_error};

pub use links::{Links, after_job, before_job};
pub use prune::prune;
pub use receive::{Source, receive};

/// What is recorded of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Meta {
    sha256: String,
    label: String,
    from: String,
    /// The kernel's boot id. Trees are not synced to disk (the client has them); after a crash of the machine a tree may have
    /// holes, so that one of another boot does not count as already there.
    boot: String,
    /// Names at the root that begin with `result` and came with the tree.
    #[serde(default)]
    results: Vec<String>,
    /// When the tree was whole, by the file system's clock, as seconds and nanoseconds: whatever was changed later is not
    /// what was pushed.
    #[serde(default)]
    sealed: Option<(i64, i64)>,
}

/// One project's folder.
#[derive(Debug, Clone)]
pub struct Project {
    name: String,
    dir: PathBuf,
}

/// Longest name.
const NAME_MAX: usize = 100;

impl Project {
    /// The project of that name, which may not exist yet.
    ///
    /// # Errors
    /// When it is no name: it becomes a folder and part of a flake's URL.
    pub fn new(projects: &Path, name: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let starts = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
        if !starts || name.len() > NAME_MAX || !name.chars().all(fits) {
            return Err(Error::Usage(format!(
                "{name:?} is no name for a project: letters, digits, `-`, `_` and `.`, not first"
            )));
        }
        Ok(Self { name: name.to_owned(), dir: projects.join(name) })
    }

    /// All projects, by name.
    ///
    /// # Errors
    /// When the folder cannot be read; without one there are none.
    pub fn all(projects: &Path) -> Result<Vec<Self>> {
        let mut found: Vec<_> = names(projects)?.iter().filter_map(|n| Self::new(projects, n).ok()).collect();
        found.retain(|p| p.dir.is_dir());
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn meta_dir(&self) -> PathBuf {
        self.dir.join(".meta")
    }

    /// The folder of a generation.
    #[must_use]
    pub fn tree(&self, generation: u64) -> PathBuf {
        self.dir.join(format!("{generation:06}"))
    }

    /// What was pushed, as [`contract::tree`] writes it.
    fn manifest_file(&self, generation: u64) -> PathBuf {
        self.meta_dir().join(Self::manifest_name(generation))
    }

    fn manifest_name(generation: u64) -> String {
        format!("{generation:06}.tree")
    }

    fn meta(&self, generation: u64) -> Result<Option<Meta>> {
        // A record that cannot be read is none: the tree is then pushed again.
        Ok(files::read_json(&self.meta_dir().join(format!("{generation:06}.json"))).unwrap_or_default())
    }

    /// Numbers of the trees that are there, ascending.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn numbers(&self) -> Result<Vec<u64>> {
        let mut numbers: Vec<u64> = names(&self.dir)?.iter().filter_map(|n| number(n)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Where `current` leads, if that tree is there.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        let target = fs::read_link(self.dir.join("current")).ok()?;
        let generation = number(target.to_str()?)?;
        self.tree(generation).is_dir().then_some(generation)
    }

    /// `current`, or the one asked for.
    ///
    /// # Errors
    /// When it is not there.
    pub fn pick(&self, generation: Option<u64>) -> Result<u64> {
        match generation {
            Some(g) if self.tree(g).is_dir() => Ok(g),
            Some(g) => Err(Error::NotFound(format!(
                "generation {g} of {:?} is not in the builder (any more)",
                self.name
            ))),
            None => self
                .current()
                .ok_or_else(|| Error::NotFound(format!("nothing has been pushed as {:?} yet", self.name))),
        }
    }

    fn describe(&self, generation: u64, unchanged: bool) -> Result<Generation> {
        let meta = self.meta(generation)?;
        let (sha256, label, from) = meta.map(|m| (m.sha256, m.label, m.from)).unwrap_or_default();
        Ok(Generation {
            project: self.name.clone(),
            generation,
            path: self.tree(generation).display().to_string(),
            sha256,
            label,
            from,
            current: self.current() == Some(generation),
            unchanged,
        })
    }

    /// All trees of it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn generations(&self) -> Result<Vec<Generation>> {
        self.numbers()?.into_iter().map(|g| self.describe(g, false)).collect()
    }

    /// Points `current` at `generation`, at once for all readers.
    fn make_current(&self, generation: u64) -> Result<()> {
        let temporary = self.dir.join(".current.new");
        files::withdraw(&temporary)?;
        std::os::unix::fs::symlink(format!("{generation:06}"), &temporary)
            .map_err(io_error("make", &temporary))?;
        let current = self.dir.join("current");
        fs::rename(&temporary, &current).map_err(io_error("replace", &current))
    }

    /// One writer at a time. `wait` is told if there is another.
    fn lock(&self, name: &str, wait: impl FnOnce()) -> Result<Flock<File>> {
        let meta_dir = self.meta_dir();
        fs::create_dir_all(&meta_dir).map_err(io_error("make", &meta_dir))?;
        let path = meta_dir.join(name);
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true).mode(0o600);
        let file = options.open(&path).map_err(io_error("open", &path))?;
        agent::lock::take(file, wait).map_err(crate::error::errno("lock", &path))
    }
}

/// The number of a generation's folder.
fn number(name: &str) -> Option<u64> {
    (name.len() >= 6 && name.bytes().all(|b| b.is_ascii_digit())).then(|| name.parse().ok())?
}

/// UTF-8 names in a folder; none without a folder.
fn names(dir: &Path) -> Result<Vec<String>> {
    match fs::read_dir(dir) {
        Ok(entries) => Ok(entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(io_error("read", dir)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_projects() {
        for good in ["a", "nix-trampoline", "a.b_c", "_x", "9"] {
            assert!(Project::new(Path::new("/p"), good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", ".meta", "-x", "a/b", "a b", "a#b", "ä", "x\n", &"x".repeat(101)] {
            assert!(Project::new(Path::new("/p"), bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn numbers_are_six_digits_or_more() {
        assert_eq!(number("000012"), Some(12));
        assert_eq!(number("1000000"), Some(1_000_000));
        assert_eq!(
            (number("12"), number("00001a"), number("current"), number(".old-000001")),
            (None, None, None, None)
        );
    }
}
