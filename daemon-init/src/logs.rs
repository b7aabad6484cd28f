//! What the agents have logged last, kept on the store volume for those who ask when the pod is gone: `logs/current` of this life of the
//! pod, `logs/previous` of the one before, in our folder, which root alone can read.
//!
//! The agents' own files, in memory, are at most [`LOG_HALF`] twice. One is copied when the pod ends, and before that when we are awake
//! anyway and it has grown, once a minute at most: so nobody wakes for a log, and of a pod that is killed most is there.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use agent::files;
use agent::paths::Paths;
use contract::exit::Exit;
use contract::handshake::{LOG_HALF, Life, file};
use contract::places::Container;
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};

/// Between two copies.
const PAUSE: Duration = Duration::from_secs(60);
const DIR: &str = "logs";
const CURRENT: &str = "current";
const PREVIOUS: &str = "previous";
/// Whose `current` is.
const LIFE: &str = "life.json";

/// What an agent's file was like when it was copied: another one in its place, or a longer one, is news.
type Seen = Option<(u64, u64)>;

/// Copies for one life of the pod. Only for who holds the volume.
#[derive(Debug)]
pub struct Keeper {
    paths: Paths,
    dir: PathBuf,
    seen: [Seen; Container::ALL.len()],
    last: Option<Instant>,
    due: Option<Instant>,
}

impl Keeper {
    /// What the life before has left becomes `previous`. A volume that takes no files costs the logs and nothing else.
    #[must_use]
    pub fn begin(paths: &Paths, life: &Life) -> Self {
        let dir = paths.mark_dir().join(DIR);
        if let Err(error) = turn(&dir, life) {
            tracing::warn!(error = %error, dir = %dir.display(), "the logs of this life are not kept");
        }
        Self { paths: paths.clone(), dir: dir.join(CURRENT), seen: Default::default(), last: None, due: None }
    }

    /// We are awake: copies what has grown, or sets a time for it.
    pub fn look(&mut self) {
        let now = Instant::now();
        self.due = None;
        if !self.seen.iter().zip(Container::ALL).any(|(seen, of)| *seen != self.now(of)) {
            return;
        }
        match self.last.map(|last| last + PAUSE).filter(|at| now < *at) {
            Some(at) => self.due = Some(at),
            None => self.copy(),
        }
    }

    /// When [`Self::look`] wants to be called again at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.due
    }

    /// Copies what has grown, now.
    pub fn copy(&mut self) {
        for (index, of) in Container::ALL.into_iter().enumerate() {
            let now = self.now(of);
            if now == self.seen[index] {
                continue;
            }
            match text(&self.paths.run_dir(of)).and_then(|text| {
                files::write_bytes(&self.dir, of.name(), 0o600, &text).map_err(io::Error::other)
            }) {
                Ok(()) => self.seen[index] = now,
                Err(error) => tracing::debug!(error = %error, of = of.name(), "log not kept"),
            }
        }
        self.last = Some(Instant::now());
    }

    fn now(&self, of: Container) -> Seen {
        let found = fs::symlink_metadata(self.paths.run_dir(of).join(file::LOG)).ok()?;
        Some((found.ino(), found.len()))
    }
}

fn turn(dir: &Path, life: &Life) -> io::Result<()> {
    let (current, previous) = (dir.join(CURRENT), dir.join(PREVIOUS));
    let of = files::read_json::<Life>(&current.join(LIFE)).ok().flatten();
    if of.as_ref() == Some(life) {
        return Ok(());
    }
    if current.is_dir() {
        match fs::remove_dir_all(&previous) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::rename(&current, &previous)?,
        }
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&current)?;
    files::write_json(&current, LIFE, life).map_err(io::Error::other)
}

/// Both halves of an agent's log. Its folder is its own: a link, a pipe or somebody else's file in the place of one is no log, and of
/// a file that is too long the end counts.
fn text(dir: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let owner = fs::symlink_metadata(dir)?.uid();
    for name in [file::LOG_BEFORE, file::LOG] {
        let flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        let mut file = match OpenOptions::new().read(true).custom_flags(flags).open(dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        if !found.is_file() || found.uid() != owner {
            return Err(io::Error::other(format!("{} is no log of its agent's", dir.join(name).display())));
        }
        io::Seek::seek(&mut file, io::SeekFrom::Start(found.len().saturating_sub(LOG_HALF)))?;
        file.take(LOG_HALF).read_to_end(&mut text)?;
    }
    Ok(text)
}

/// Nothing is kept of that agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has not logged in that life, or there was none.
    #[error("no log of {} is kept of {which} life of the builder", of.agent())]
    None {
        /// Whose.
        of: Container,
        /// `this` or `the former`.
        which: &'static str,
    },
    /// Of the operating system.
    #[error("read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        Exit::Io
    }
}

/// What is kept of an agent: of the life that is or was the last one, or of the one before.
///
/// # Errors
/// See [`Error`].
pub fn kept(paths: &Paths, of: Container, previous: bool) -> Result<Vec<u8>, Error> {
    let (folder, which) = if previous { (PREVIOUS, "the former") } else { (CURRENT, "this") };
    let path = paths.mark_dir().join(DIR).join(folder).join(of.name());
    match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Error::None { of, which }),
        read => read.map_err(|source| Error::Io { path, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        fs::create_dir_all(paths.mark_dir()).unwrap();
        for of in Container::ALL {
            fs::create_dir_all(paths.run_dir(of)).unwrap();
        }
        (dir, paths)
    }

    fn life(name: &str) -> Life {
        Life(name.to_owned())
    }

    fn says(paths: &Paths, of: Container, previous: bool) -> Option<String> {
        kept(paths, of, previous).ok().map(|text| String::from_utf8(text).unwrap())
    }

    #[test]
    fn each_life_has_its_own_and_the_last_two_are_there() {
        let (_dir, paths) = scratch();
        let log = paths.run_dir(Container::User).join(file::LOG);
        for (number, words) in ["first\n", "second\n", "third\n"].iter().enumerate() {
            fs::write(&log, words).unwrap();
            let name = number.to_string();
            Keeper::begin(&paths, &life(&name)).copy();
            // A container that is started again belongs to the same life.
            Keeper::begin(&paths, &life(&name)).copy();
        }
        assert_eq!(says(&paths, Container::User, false).as_deref(), Some("third\n"));
        assert_eq!(says(&paths, Container::User, true).as_deref(), Some("second\n"));
        assert_eq!(says(&paths, Container::Daemon, false), None);
    }

    #[test]
    fn what_has_not_grown_is_not_copied_and_asks_for_no_time() {
        let (_dir, paths) = scratch();
        fs::write(paths.run_dir(Container::User).join(file::LOG), "a\n").unwrap();
        let mut keeper = Keeper::begin(&paths, &life("1"));
        keeper.look();
        assert_eq!(says(&paths, Container::User, false).as_deref(), Some("a\n"));
        keeper.look();
        assert_eq!(keeper.deadline(), None);
        fs::write(paths.run_dir(Container::User).join(file::LOG_BEFORE), "a\n").unwrap();
        fs::write(paths.run_dir(Container::User).join(file::LOG), "b b\n").unwrap();
        keeper.look();
        assert_eq!(says(&paths, Container::User, false).as_deref(), Some("a\n"), "once a minute");
        assert!(keeper.deadline().is_some_and(|at| at <= Instant::now() + PAUSE));
        keeper.copy();
        assert_eq!(says(&paths, Container::User, false).as_deref(), Some("a\nb b\n"));
        keeper.look();
        assert_eq!(keeper.deadline(), None);
    }

    #[test]
    fn what_users_plant_in_place_of_a_log_is_not_followed() {
        let (dir, paths) = scratch();
        let secret = dir.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let mut keeper = Keeper::begin(&paths, &life("1"));
        symlink(&secret, paths.run_dir(Container::User).join(file::LOG)).unwrap();
        keeper.copy();
        assert_eq!(says(&paths, Container::User, false), None);
        fs::remove_file(paths.run_dir(Container::User).join(file::LOG)).unwrap();
        let pipe = paths.run_dir(Container::User).join(file::LOG);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        keeper.copy();
        assert_eq!(says(&paths, Container::User, false), None);
        // Of one that is too long, the end.
        fs::remove_file(&pipe).unwrap();
        let size = usize::try_from(LOG_HALF).unwrap();
        fs::write(&pipe, [vec![b'a'; size], b"end".to_vec()].concat()).unwrap();
        keeper.copy();
        let text = says(&paths, Container::User, false).unwrap();
        assert!(text.len() == size && text.ends_with("aend"));
    }
}
