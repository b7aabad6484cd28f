//! What this client remembers of a builder, in `$XDG_STATE_HOME/trampoline/builders/NAME/`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use serde::{Serialize, de::DeserializeOwned};

use contract::exit::Exit;

use crate::error::{CliError, OnPath, Result};
use crate::ui::Ui;

/// The folder of one builder.
#[derive(Debug, Clone)]
pub(crate) struct State {
    dir: PathBuf,
}

/// Of all builders.
pub(crate) fn root() -> Result<PathBuf> {
    let absolute = |key: &str| std::env::var_os(key).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    base.map(|base| base.join("trampoline/builders")).ok_or_else(|| {
        CliError::new(Exit::Config, "neither HOME nor XDG_STATE_HOME is set to an absolute path")
            .hint("the client remembers builders there: set HOME")
    })
}

impl State {
    /// `cluster` tells builders of one name apart that are in different clusters or namespaces; none: this machine's.
    pub(crate) fn of(name: &str, cluster: Option<&str>) -> Result<Self> {
        // No name of a builder has an `@`.
        let folder = match cluster {
            None => name.to_owned(),
            Some(cluster) => format!("{name}@{}", crate::render::digest(cluster.as_bytes())),
        };
        Ok(Self { dir: root()?.join(folder) })
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn make(&self, dir: &Path) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).on("cannot create", dir)
    }

    /// What was written under this name; nothing if it is absent or of another version of the program.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        serde_json::from_slice(&fs::read(self.path(name)).ok()?).ok()
    }

    /// Replaces a file whole.
    pub(crate) fn write<T: Serialize>(&self, name: &str, value: &T) -> Result<()> {
        let bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| CliError::new(Exit::Internal, format!("cannot write JSON: {error}")))?;
        self.write_bytes(name, &bytes, 0o600)
    }

    /// Replaces a file whole, with this mode.
    pub(crate) fn write_bytes(&self, name: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            self.make(parent)?;
        }
        replace(&path, bytes, mode)
    }

    /// Forgets a file.
    pub(crate) fn forget(&self, name: &str) -> Result<()> {
        absent_ok(fs::remove_file(self.path(name))).on("cannot remove", &self.path(name))
    }

    /// Forgets the builder.
    pub(crate) fn remove(&self) -> Result<()> {
        absent_ok(fs::remove_dir_all(&self.dir)).on("cannot remove", &self.dir)
    }

    /// Starts, stops and changes of one builder happen one after another; the kernel lets go when we end.
    pub(crate) async fn lock(&self, ui: Ui) -> Result<Lock> {
        let Some(parent) = self.dir.parent() else {
            return Err(CliError::new(Exit::Internal, "the state folder has no parent"));
        };
        self.make(parent)?;
        // Beside the folder, which `clean` removes while it holds the lock.
        let path = self.dir.with_extension("lock");
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .on("cannot open", &path)?;
        if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            return Ok(Lock { _file: file });
        }
        ui.say("another trampoline-cli is starting, stopping or changing this builder; waiting for it");
        let waiting = tokio::task::spawn_blocking(move || {
            rustix::fs::flock(&file, FlockOperation::LockExclusive).map(|()| file)
        });
        match waiting.await {
            Ok(Ok(file)) => Ok(Lock { _file: file }),
            Ok(Err(error)) => Err(CliError::io("cannot lock", &path, &error.into())),
            Err(error) => Err(CliError::new(Exit::Internal, format!("cannot wait for a lock: {error}"))),
        }
    }
}

/// Held while it lives.
pub(crate) struct Lock {
    _file: File,
}

/// Writes to a temporary name beside it and renames.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error that matters is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.on("cannot write", path)
}

/// Gone already is as good as removed.
pub(crate) fn absent_ok(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
