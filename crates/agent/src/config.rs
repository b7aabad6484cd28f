//! The mounted `trampoline.toml`, also when it changes under way.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use contract::config::{Config, ConfigErrors};
use contract::exit::Exit;
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
        Ok(Self { path: path.to_owned(), config, digest, refused: None })
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
            // Being written, which is told once more when it is closed. Behind a link nobody writes: Kubernetes swaps that.
            Ok((Some(text), _)) if text.is_empty() && !self.path.is_symlink() => return false,
            Ok(read) => read,
            Err(error) => {
                self.refuse(reporter, "unreadable".to_owned(), &crate::status::chain(&error));
                return false;
            }
        };
        if digest == self.digest {
            if self.refused.take().is_some() {
                reporter.config(&self.digest, None);
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
        let changes: Vec<_> = contract::config::live_changes(&self.config, &new)
            .into_iter()
            .filter(|change| change.concerns(reporter.reader()))
            .collect();
        for change in &changes {
            let shown = |config| change.option.logged(config).unwrap_or_default();
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
        reporter.config(&self.digest, contract::config::pending_note(&changes));
        true
    }

    fn refuse(&mut self, reporter: &mut Reporter, digest: String, why: &str) {
        if self.refused.as_ref() == Some(&digest) {
            return;
        }
        tracing::error!("the changed configuration is refused, the last good one stays in force: {why}");
        reporter.config(&self.digest, Some(format!("refused: {why}")));
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
