//! Which home volume this is. `result` links of users are roots of the store, and Nix unlinks those that it cannot see: beside another
//! home, or none, the first collection would delete what they hold. So nobody collects until somebody says that this is the
//! home.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use agent::files;
use agent::paths::Paths;
use agent::status::Reporter;
use contract::handshake::Phase;
use contract::image::Mark;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::seed::durability::Disk;
use crate::seed::error::{Context, StoreError};
use crate::volume::{lock, mark};

/// In the home. Root's file in the user's folder: who removes it has another home from then on.
const FILE: &str = ".trampoline-home";
/// Hex digits of an identity.
const LENGTH: usize = 32;
/// Users write there.
const FLAGS: i32 = OFlag::O_NOFOLLOW.union(OFlag::O_NONBLOCK).bits();

/// The identity of the mounted home volume, made on first sight.
///
/// # Errors
/// When the home cannot be read or written.
pub fn identity(paths: &Paths) -> Result<String, StoreError> {
    if let Some(known) = known(paths) {
        return Ok(known);
    }
    let path = paths.home.join(FILE);
    let made = mark::fresh()?.store_id;
    let file = OpenOptions::new().write(true).create_new(true).mode(0o444).custom_flags(FLAGS).open(&path);
    match file {
        Ok(mut file) => file.write_all(made.as_bytes()).context("write", &path)?,
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
        Err(e) => return Err(StoreError::io("create", &path, e)),
    }
    Ok(made)
}

/// The same, where it was seen before and can be read.
#[must_use]
pub fn known(paths: &Paths) -> Option<String> {
    let path = paths.home.join(FILE);
    let opened = OpenOptions::new().read(true).custom_flags(FLAGS).open(&path);
    let mut known = String::new();
    match opened {
        Ok(file) => {
            // Not UTF-8, or not ours at all: as good as absent.
            let _ = file.take(LENGTH as u64 + 1).read_to_string(&mut known);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        // A link or worse: the user's doing, which makes it another home and nothing else.
        Err(error) => tracing::warn!(%error, path = %path.display(), "the home's identity cannot be read"),
    }
    let known = known.trim_end();
    let is_one = known.len() == LENGTH && known.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| known.to_owned())
}

/// Whether roots of the store may point into another home than this one.
#[must_use]
pub fn is_another(mark: Option<&Mark>, home: &str) -> bool {
    mark.is_some_and(|mark| !mark.home_id.is_empty() && mark.home_id != home)
}

/// Remembers this home as the store's. Run by hand (by the client) beside the serving daemon-init, which notices.
///
/// # Errors
/// When the mark cannot be read or written.
pub fn accept(paths: &Paths) -> Result<(), StoreError> {
    let home = identity(paths)?;
    let Some(mark) = read_mark(paths) else {
        let path = paths.mark_dir();
        return Err(StoreError::Io {
            doing: "read the mark in",
            path,
            source: io::ErrorKind::NotFound.into(),
        });
    };
    mark::write(&paths.mark_dir(), &Mark { home_id: home, ..mark }, &Disk)
}

fn read_mark(paths: &Paths) -> Option<Mark> {
    files::read_json(&paths.mark_dir().join(mark::MARK_FILE)).ok().flatten()
}

/// Keeps collections from beginning, ours and the users' alike, while this home is not accepted: each takes this lock
/// for itself, builds only share it.
#[derive(Debug)]
pub struct Guard {
    paths: Paths,
    home: String,
    lock: Option<Flock<File>>,
}

impl Guard {
    /// Takes the lock if this is another home.
    ///
    /// # Errors
    /// When Nix's lock file cannot be opened.
    pub fn new(paths: &Paths, home: String, mark: Option<&Mark>) -> Result<Self, StoreError> {
        let lock =
            if is_another(mark, &home) { Some(share(paths.nix.join("var/nix/gc.lock"))?) } else { None };
        Ok(Self { paths: paths.clone(), home, lock })
    }

    /// Says so in the status; to be called when the daemon serves.
    pub fn report(&self, reporter: &mut Reporter) {
        if self.lock.is_some() {
            let words = "serving, but nothing is collected: the home volume is not the one that this store's roots point into. \
                         If that is as it should be: trampoline-cli maintenance --accept-home";
            tracing::warn!("{words}");
            reporter.phase(Phase::Running, words);
        }
    }

    /// The mark may have changed. What was accepted is the home as it is now: the user may have taken its file away since.
    pub fn look(&mut self, reporter: &mut Reporter) {
        if self.lock.is_none() {
            return;
        }
        let mark = read_mark(&self.paths);
        let now = || identity(&self.paths).is_ok_and(|home| !is_another(mark.as_ref(), &home));
        if !is_another(mark.as_ref(), &self.home) || now() {
            self.lock = None;
            tracing::info!("this home is accepted as the store's: collections may run again");
            reporter.phase(Phase::Running, "nix-daemon serves");
        }
    }
}

fn share(path: PathBuf) -> Result<Flock<File>, StoreError> {
    let file = lock::open(&path).context("open", &path)?;
    Flock::lock(file, FlockArg::LockSharedNonblock).map_err(|(_, e)| StoreError::io("lock", &path, e.into()))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        fs::create_dir_all(&paths.home).unwrap();
        fs::create_dir_all(paths.mark_dir()).unwrap();
        fs::create_dir_all(paths.nix.join("var/nix")).unwrap();
        (dir, paths)
    }

    #[test]
    fn a_home_keeps_its_identity_and_a_planted_link_is_not_followed() {
        let (dir, paths) = scratch();
        let first = identity(&paths).unwrap();
        assert_eq!(identity(&paths).unwrap(), first);
        fs::remove_file(paths.home.join(FILE)).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "x".repeat(LENGTH)).unwrap();
        symlink(&victim, paths.home.join(FILE)).unwrap();
        assert_ne!(identity(&paths).unwrap(), first);
        assert_eq!(fs::read_to_string(&victim).unwrap(), "x".repeat(LENGTH));
    }

    #[test]
    fn another_home_holds_the_collectors_lock_until_it_is_accepted() {
        let (_dir, paths) = scratch();
        let lock = paths.nix.join("var/nix/gc.lock");
        let collector = || {
            let file = OpenOptions::new().create(true).append(true).open(&lock).unwrap();
            Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
        };
        let old = Mark { home_id: "0".repeat(LENGTH), ..mark::fresh().unwrap() };
        mark::write(&paths.mark_dir(), &old, &Disk).unwrap();
        let home = identity(&paths).unwrap();
        let life = contract::handshake::Life(String::new());
        let mut reporter = Reporter::new(&paths, &life, contract::places::Container::Daemon, "");

        let mut guard = Guard::new(&paths, home.clone(), Some(&old)).unwrap();
        assert!(!collector());
        guard.look(&mut reporter);
        assert!(!collector(), "nothing has changed");
        accept(&paths).unwrap();
        guard.look(&mut reporter);
        assert!(collector());

        // The file went, and with it what was known at the start.
        mark::write(&paths.mark_dir(), &old, &Disk).unwrap();
        let mut guard = Guard::new(&paths, home.clone(), Some(&old)).unwrap();
        fs::remove_file(paths.home.join(FILE)).unwrap();
        accept(&paths).unwrap();
        guard.look(&mut reporter);
        assert!(collector());

        let same = Mark { home_id: home.clone(), ..old };
        assert!(!is_another(Some(&same), &home) && !is_another(None, &home));
    }
}
