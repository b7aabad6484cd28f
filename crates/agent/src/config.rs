//! The mounted `trampoline.toml`, also when it changes under way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::config::{Config, ConfigErrors};
use contract::exit::Exit;
use contract::handshake::CONFIG_REFUSED;
use sha2::{Digest, Sha256};

use crate::status::Reporter;

/// The file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There but unreadable.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its content is refused; the text names file, line and key.
    #[error("{0}")]
    Refused(ConfigErrors),
}

/// A validated configuration and where it came from.
#[derive(Debug, Clone)]
pub struct Watched {
    path: PathBuf,
    config: Config,
    /// As at the start: what waits for the next one still has this value.
    started: Config,
    digest: String,
    /// Of the text that was refused last, so that it is refused once.
    refused: Option<String>,
}

fn read(path: &Path) -> Result<(Option<String>, String), Error> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let digest = contract::hex(&Sha256::digest(&text)[..6]);
            Ok((Some(text), digest))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok((None, "defaults".to_owned())),
        Err(source) => Err(Error::Read { path: path.to_owned(), source }),
    }
}

fn parse(path: &Path, text: Option<&str>) -> Result<Config, Error> {
    let name = path.display().to_string();
    text.map_or_else(|| Ok(Config::default()), |text| Config::parse(text, &name)).map_err(Error::Refused)
}

impl Watched {
    /// Reads and validates; without a file everything is as by default.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        let (text, digest) = read(path)?;
        let config = parse(path, text.as_deref())?;
        Ok(Self { path: path.to_owned(), started: config.clone(), config, digest, refused: None })
    }

    /// What is in force.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// First 12 hex digits of the file's sha256, or `defaults`.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Reads again. A good change is taken (true) and each changed value logged; a bad one is said once, in the log and the
    /// status file, and the last good one stays in force.
    pub fn reload(&mut self, reporter: &mut Reporter) -> bool {
        let (text, digest) = match read(&self.path) {
            // Being replaced, which podman does in place: it is told once more when that is done.
            Ok((None, _)) => return false,
            // Behind a link nobody writes: Kubernetes swaps that.
            Ok((Some(text), _)) if text.is_empty() && !self.path.is_symlink() => return false,
            Ok(read) => read,
            Err(error) => {
                self.refuse(reporter, "unreadable".to_owned(), &crate::status::chain(&error));
                return false;
            }
        };
        if digest == self.digest {
            if self.refused.take().is_some() {
                reporter.config(&self.digest, self.waiting(reporter));
            }
            return false;
        }
        let new = match parse(&self.path, text.as_deref()) {
            Ok(new) => new,
            Err(error) => {
                self.refuse(reporter, digest, &error.to_string());
                return false;
            }
        };
        let changes = contract::config::live_changes(&self.config, &new);
        for change in changes.iter().filter(|change| change.concerns(reporter.reader())) {
            let shown = |config| change.option.logged(config).unwrap_or_else(|| "not set".to_owned());
            let (old, new) = (shown(&self.config), shown(&new));
            tracing::info!(
                key = change.option.path(),
                old,
                new,
                counts = change.effect().when(),
                "configuration changed"
            );
        }
        (self.config, self.digest, self.refused) = (new, digest, None);
        crate::log::change(&self.config.log);
        reporter.config(&self.digest, self.waiting(reporter));
        true
    }

    /// What has changed since the start and does not count yet.
    fn waiting(&self, reporter: &Reporter) -> Option<String> {
        let mut changes = contract::config::live_changes(&self.started, &self.config);
        changes.retain(|change| change.concerns(reporter.reader()));
        contract::config::pending_note(&changes)
    }

    fn refuse(&mut self, reporter: &mut Reporter, digest: String, why: &str) {
        if self.refused.as_ref() == Some(&digest) {
            return;
        }
        tracing::error!("the changed configuration is refused, the last good one stays in force: {why}");
        reporter.config(&self.digest, Some(format!("{CONFIG_REFUSED}{why}")));
        self.refused = Some(digest);
    }
}

/// `--check-config`: says what is wrong, or that nothing is.
#[must_use]
pub fn check(path: &Path) -> Exit {
    use std::io::Write;
    // A closed standard output or error is the reader's wish; the code says it all.
    match Watched::load(path) {
        Ok(loaded) => {
            let _ = writeln!(std::io::stdout(), "{} is good ({})", path.display(), loaded.digest());
            Exit::Ok
        }
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{}", crate::status::chain(&error));
            Exit::Config
        }
    }
}

#[cfg(test)]
mod tests {
    use contract::handshake::{AgentStatus, Life, file};
    use contract::places::Container;

    use super::*;
    use crate::paths::Paths;

    struct Pod {
        _dir: tempfile::TempDir,
        paths: Paths,
        reporter: Reporter,
    }

    impl Pod {
        fn new(text: &str) -> (Self, Watched) {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::scratch(dir.path());
            fs::create_dir_all(paths.config.parent().unwrap()).unwrap();
            fs::create_dir_all(paths.run_dir(Container::Daemon)).unwrap();
            let reporter = Reporter::new(&paths, &Life("a".into()), Container::Daemon, "1");
            let pod = Self { _dir: dir, paths, reporter };
            pod.write(text);
            let watched = Watched::load(&pod.paths.config).unwrap();
            (pod, watched)
        }

        fn write(&self, text: &str) {
            fs::write(&self.paths.config, text).unwrap();
        }

        fn note(&self) -> Option<String> {
            let path = self.paths.run_dir(Container::Daemon).join(file::STATUS);
            crate::files::read_json::<AgentStatus>(&path).unwrap().unwrap().config_note
        }
    }

    #[test]
    fn what_waits_for_a_restart_is_said_until_it_is_taken_back() {
        let (mut pod, mut watched) = Pod::new("daemon.max-jobs = 1\n");
        pod.write("daemon.max-jobs = 2\n");
        assert!(watched.reload(&mut pod.reporter));
        let waits = Some("daemon.max-jobs counts after a restart of the builder".to_owned());
        assert_eq!(pod.note(), waits);
        pod.write("daemon.max-jobs = 2\nlog.level = \"info\"\n");
        assert!(watched.reload(&mut pod.reporter));
        assert_eq!(pod.note(), waits, "it still does");
        pod.write("daemon.max-jobs = 1\n");
        assert!(watched.reload(&mut pod.reporter));
        assert_eq!(pod.note(), None);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_refused_once_and_the_last_good_one_stays() {
        let (mut pod, mut watched) = Pod::new("daemon.max-jobs = 1\n");
        let digest = watched.digest().to_owned();
        pod.write("daemon.max-jobs = 0\n");
        assert!(!watched.reload(&mut pod.reporter));
        assert!(pod.note().unwrap().starts_with(CONFIG_REFUSED), "{:?}", pod.note());
        assert_eq!((watched.config().daemon.max_jobs, watched.digest()), (Some(1), &*digest));
        // One that is just being replaced is neither.
        fs::remove_file(&pod.paths.config).unwrap();
        assert!(!watched.reload(&mut pod.reporter));
        pod.write("");
        assert!(!watched.reload(&mut pod.reporter));
        assert!(pod.note().is_some());
        assert_eq!(watched.config().daemon.max_jobs, Some(1));
        pod.write("daemon.max-jobs = 1\n");
        assert!(!watched.reload(&mut pod.reporter));
        assert_eq!(pod.note(), None);
    }
}
