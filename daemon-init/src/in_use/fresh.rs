//! What came into the store of late is spared by every collection: somebody may be about to use it, and nothing holds it yet. Nix
//! itself forgets a path as soon as the conversation that brought it is over.
//!
//! The roots are temporary ones, as each process of Nix has them: a locked file in `temproots` by the name of its owner's process
//! id. That is one inode for any number of paths, and void as soon as we are gone.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use agent::config::Watched;
use agent::paths::Paths;
use agent::status::chain;
use agent::{proc, published};
use contract::handshake::Life;
use contract::in_use::{GRACE, Grace, is_name};
use contract::places::Container;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;

use super::arrivals::Arrivals;
use crate::seed::error::{Context, StoreError};

fn file_of(paths: &Paths) -> PathBuf {
    paths.nix.join("var/nix/temproots").join(std::process::id().to_string())
}

/// The roots, for as long as this lives.
#[derive(Debug)]
pub(super) struct Fresh {
    file: Flock<File>,
    path: PathBuf,
    /// Of the last configuration that could be read.
    window: Duration,
    /// What the roots are.
    known: HashSet<String>,
    /// What comes in while one collection is let in.
    arrivals: Option<Arrivals>,
}

impl Fresh {
    /// None yet.
    ///
    /// # Errors
    /// When Nix's folder of temporary roots cannot be written.
    pub(super) fn new(paths: &Paths) -> Result<Self, StoreError> {
        let path = file_of(paths);
        let folder = paths.nix.join("var/nix/temproots");
        fs::create_dir_all(&folder).context("make", &folder)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(O_NOFOLLOW)
            .open(&path)
            .context("open", &path)?;
        // Shared: older versions of Nix wait for a lock of their own before they read.
        let file = Flock::lock(file, FlockArg::LockSharedNonblock)
            .map_err(|(_, error)| StoreError::io("lock", &path, error.into()))?;
        let window = contract::config::Config::default().maintenance.grace_window;
        Ok(Self { file, path, window, known: HashSet::new(), arrivals: None })
    }

    /// Makes the roots be those of what has come in within the window that is in force. Called while a collection waits at the gate, so
    /// that none reads meanwhile.
    pub(super) fn look(&mut self, paths: &Paths, life: &Life) {
        let window = self.window(paths, life);
        let store = paths.nix.join("store");
        // Before the list is made, so that it misses nothing.
        self.arrivals = (!window.is_zero()).then(|| Arrivals::watch(paths));
        let done = names(&store, window).context("list", &store).and_then(|names| {
            self.write(&text(&store, &names)).context("write", &self.path)?;
            self.known = names.into_iter().collect();
            Ok(self.known.len())
        });
        match done {
            Ok(paths) => tracing::debug!(paths, "what came in of late is spared"),
            Err(error) => lost(&error),
        }
    }

    /// Whether anything is spared for being fresh.
    pub(super) fn spares(&self) -> bool {
        self.arrivals.is_some()
    }

    /// Adds what has come in since, and what somebody is about to bring in; returns it. A collection may be reading: what it has read
    /// stays.
    pub(super) fn more(&mut self, paths: &Paths) -> Vec<String> {
        let Some(arrivals) = &mut self.arrivals else { return Vec::new() };
        let store = paths.nix.join("store");
        let listed = || names(&store, self.window).context("list", &store);
        let added = arrivals.take(paths, listed).and_then(|mut names| {
            names.retain(|name| self.known.insert(name.clone()));
            let mut file: &File = &self.file;
            file.write_all(&text(&store, &names)).context("write", &self.path)?;
            Ok(names)
        });
        added.unwrap_or_else(|error| {
            lost(&error);
            Vec::new()
        })
    }

    fn window(&mut self, paths: &Paths, life: &Life) -> Duration {
        let asked: Option<Grace> = published::read(paths, life, Container::Maintenance, GRACE);
        if let Some(asked) = asked.filter(|asked| proc::lives(&paths.proc, asked.by)) {
            return Duration::from_secs(asked.seconds);
        }
        if let Ok(config) = Watched::load(&paths.config) {
            self.window = config.config().maintenance.grace_window;
        }
        self.window
    }

    fn write(&self, text: &[u8]) -> io::Result<()> {
        let mut file: &File = &self.file;
        file.set_len(0)?;
        io::Seek::rewind(&mut file)?;
        file.write_all(text)
    }
}

/// As Nix reads it.
pub(super) fn text(store: &Path, names: &[String]) -> Vec<u8> {
    let line = |name: &String| [store.join(name).as_os_str().as_bytes(), &[0]].concat();
    names.iter().flat_map(line).collect()
}

fn lost(error: &StoreError) {
    tracing::error!("a collection may delete what has just come in: {}", chain(error));
}

/// Removes the file at the end of the pod's life. What a killed one leaves goes with the next collection.
pub(super) fn forget(paths: &Paths) -> Result<(), StoreError> {
    let path = file_of(paths);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path, error)),
        _ => Ok(()),
    }
}

/// Names in the store folder of what was renamed into it within the window, which the kernel notes as a change of the inode. What
/// lies in the future, after a step of the clock, is fresh.
fn names(store: &Path, window: Duration) -> io::Result<Vec<String>> {
    if window.is_zero() {
        return Ok(Vec::new());
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let since = i64::try_from(now.saturating_sub(window).as_secs()).unwrap_or(i64::MAX);
    let mut names = Vec::new();
    for entry in fs::read_dir(store)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !is_name(&name) {
            continue;
        }
        match entry.metadata() {
            Ok(metadata) if metadata.ctime() >= since => names.push(name),
            Ok(_) => {}
            // Deleted just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00000000000000000000000000000000-a";

    #[test]
    fn what_is_fresh_is_written_as_nix_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        let store = paths.nix.join("store");
        fs::create_dir_all(store.join(NAME)).unwrap();
        fs::create_dir_all(store.join(".links")).unwrap();
        assert_eq!(names(&store, Duration::from_secs(60)).unwrap(), [NAME]);
        assert!(names(&store, Duration::ZERO).unwrap().is_empty());
        let mut fresh = Fresh::new(&paths).unwrap();
        fresh.look(&paths, &Life("b:1".into()));
        let text = fs::read(file_of(&paths)).unwrap();
        assert_eq!(text, format!("{}\0", store.join(NAME).display()).as_bytes());
        let later = NAME.replace("-a", "-b");
        fs::create_dir_all(store.join(&later)).unwrap();
        assert_eq!(fresh.more(&paths), std::slice::from_ref(&later));
        assert!(fresh.more(&paths).is_empty());
        let text = fs::read_to_string(file_of(&paths)).unwrap();
        assert_eq!(text.matches('\0').count(), 2, "{text}");
        assert!(text.ends_with(&format!("{}\0", store.join(&later).display())), "{text}");
        fresh.write(b"").unwrap();
        assert_eq!(fs::read(file_of(&paths)).unwrap(), b"");
        forget(&paths).unwrap();
        forget(&paths).unwrap();
    }
}
