//! Keys that sign store paths: the builder's own, with which nix-daemon signs what it has built, and those whose signatures it
//! takes. Both are in our folder of the store volume, which is root's alone.

mod change;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use agent::files;
use agent::paths::Paths;
use contract::config::{Config, trusted_keys};
use contract::handshake::{Life, file};
use contract::keys::{self, BuilderKeys, KeySource, TrustedKey};
use contract::places::Container;

use crate::random;

pub use change::{Change, change};

/// The builder's own, both halves.
const SIGNING_KEY: &str = "signing-key";
/// Public halves, one a line.
const TRUSTED: &str = "trusted-keys";
/// What nix.conf includes of them.
const CONF: &str = "keys.conf";

/// Keys could not be made, read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the operating system.
    #[error("{doing} {}", path.display())]
    Io {
        /// Verb.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing a file.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// Nix could not make one.
    #[error("`nix key generate-secret` made no key: {0}")]
    Nix(String),
    /// A file of ours that somebody has changed.
    #[error("{} holds something that is no key: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// What was asked for is wrong.
    #[error("{0}")]
    Usage(String),
    /// Nix would take the other one.
    #[error(
        "another key is called {0}, and nix takes one of each name: remove that one first, or give this one another name"
    )]
    NameTaken(String),
    /// The builder ends.
    #[error("the builder is stopping; the key counts at its next start")]
    Stopping,
    /// Nobody has started a daemon that knows it.
    #[error("nix-daemon does not use the changed keys after {0} s; they count at the builder's next start")]
    NotInForce(u64),
}

/// What is in force, and what is to be.
#[derive(Debug)]
pub struct Keyring {
    own: String,
    config: Vec<String>,
    added: Vec<String>,
}

impl Keyring {
    /// Makes the builder's own key if there is none.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn open(paths: &Paths) -> Result<Self, Error> {
        Ok(Self { own: own(paths)?, config: Vec::new(), added: Vec::new() })
    }

    /// Looks which keys were added, and tells whether these are others than before.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn changed(&self, paths: &Paths) -> Result<bool, Error> {
        Ok(added(paths)? != self.added)
    }

    /// Writes down for the next nix-daemon what was added. `settings`: those of a configuration that it will read as well.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn write(&mut self, paths: &Paths, settings: Option<&Config>) -> Result<(), Error> {
        self.added = added(paths)?;
        if let Some(config) = settings {
            self.config.clone_from(&config.daemon.trusted_public_keys);
        }
        let all = [&self.own].into_iter().chain(&self.added).map(String::as_str);
        let text = trusted_keys(all) + "\n";
        Ok(files::write_bytes(&paths.run_dir(Container::Daemon), CONF, 0o644, text.as_bytes())?)
    }

    /// Says that a nix-daemon serves which has read them.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn publish(&self, paths: &Paths, life: &Life) -> Result<(), Error> {
        let of = |keys: &[String], from: KeySource| -> Vec<TrustedKey> {
            keys.iter().map(|key| TrustedKey { key: key.clone(), from }).collect()
        };
        let trusted = [of(&self.config, KeySource::Config), of(&self.added, KeySource::Added)].concat();
        let keys = BuilderKeys { life: life.clone(), own: self.own.clone(), trusted };
        Ok(files::write_json(&paths.run_dir(Container::Daemon), file::KEYS, &keys)?)
    }
}

/// What nix-daemon is told to sign with. A setting of its own process alone: the user's Nix may not read the file, and needs
/// not know of it.
#[must_use]
pub fn signing_setting(paths: &Paths) -> String {
    format!("secret-key-files = {}", paths.mark_dir().join(SIGNING_KEY).display())
}

/// The public half of the builder's own.
fn own(paths: &Paths) -> Result<String, Error> {
    let path = paths.mark_dir().join(SIGNING_KEY);
    match fs::read_to_string(&path) {
        Ok(text) => match keys::public_half(&text) {
            Some(public) => return Ok(public),
            // What was signed with it stays good: signatures are checked where they arrive.
            None => tracing::warn!("{} is damaged; making another key", path.display()),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io_error("read", &path)(e)),
    }
    let secret = generate(paths)?;
    let public = keys::public_half(&secret).ok_or_else(|| Error::Nix("it printed something else".into()))?;
    write(&paths.mark_dir(), SIGNING_KEY, secret.as_bytes())?;
    Ok(public)
}

/// By the image's own Nix. The name is random, because Nix takes one key of each name.
fn generate(paths: &Paths) -> Result<String, Error> {
    let unique = random::name::<4>().map_err(io_error("read", random::SOURCE.as_ref()))?;
    let program = paths.default_profile().join("bin/nix");
    let program = if program.exists() { program } else { "nix".into() };
    let made = Command::new(&program)
        .args(["--extra-experimental-features", "nix-command", "key", "generate-secret", "--key-name"])
        .arg(format!("trampoline-builder-{unique}"))
        .output()
        .map_err(io_error("run", &program))?;
    let words = String::from_utf8_lossy(&made.stderr);
    if !made.status.success() {
        return Err(Error::Nix(words.lines().last().unwrap_or_default().to_owned()));
    }
    String::from_utf8(made.stdout).map_err(|_| Error::Nix("it printed something else".into()))
}

/// Those that were added.
fn added(paths: &Paths) -> Result<Vec<String>, Error> {
    let path = paths.mark_dir().join(TRUSTED);
    match fs::read_to_string(&path) {
        Ok(text) => keys::parse_list(&text).map_err(|problem| Error::Damaged { path, problem }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(io_error("read", &path)(e)),
    }
}

/// For root alone, and on disk when it returns.
fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), Error> {
    files::write_bytes(dir, name, 0o600, bytes)?;
    for path in [dir.join(name), dir.to_owned()] {
        File::open(&path).and_then(|file| file.sync_all()).map_err(io_error("sync", &path))?;
    }
    Ok(())
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
