//! Somebody with a home of their own, so that nothing of the machine's user is read or written.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use crate::call::Call;
use crate::podman::Storage;
use crate::secrets::Secret;
use crate::setting::setting;

static PEOPLE: AtomicU32 = AtomicU32::new(0);

/// Home folder, login name and the variables that lead there.
#[derive(Debug)]
pub struct Person {
    root: TempDir,
    name: String,
    storage: Option<PathBuf>,
}

impl Person {
    /// A new one, without a key.
    ///
    /// # Panics
    /// If no temporary folder can be made.
    #[must_use]
    pub fn new() -> Self {
        let root = tempfile::Builder::new().prefix("t-person-").tempdir().expect("a temporary folder");
        let name = format!("t{}", PEOPLE.fetch_add(1, Ordering::Relaxed));
        let person = Self { root, name, storage: None };
        for folder in ["home", "home/.ssh", "config", "state", "cache", "work"] {
            std::fs::create_dir(person.path(folder)).expect("the temporary folder is empty");
        }
        setting().engine.hand_over(person.root.path());
        person
    }

    /// With a key in the usual folder.
    #[must_use]
    pub fn with_key(name: &str) -> Self {
        let person = Self::new();
        let file = person.path("home/.ssh").join(name);
        person.call("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(file).run().ok();
        person
    }

    /// One whose podman keeps all that it has elsewhere.
    #[must_use]
    pub fn in_storage(storage: &Storage) -> Self {
        Self { storage: Some(storage.file()), ..Self::new() }
    }

    /// Login name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `HOME`.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.path("home")
    }

    /// Where checkouts live.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.path("work")
    }

    /// The SSH configuration of this home: ssh looks for it where the password file says, not at `HOME`.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        self.path("home/.ssh/config")
    }

    /// Removes all that is theirs, for one who is never dropped.
    pub fn leave(&self) {
        // A temporary folder that stays is no reason to fail.
        let _ = std::fs::remove_dir_all(self.root.path());
    }

    /// Files of theirs that hold private keys: the client's, of each of their builders, and their own.
    ///
    /// # Panics
    /// If a folder of theirs cannot be read.
    #[must_use]
    pub fn secret_files(&self) -> Vec<PathBuf> {
        let builders = std::fs::read_dir(self.path("state/trampoline/builders"));
        let builders = builders.into_iter().flatten().map(|entry| entry.expect("a folder of ours").path());
        let files =
            builders.flat_map(|builder| ["signing-key", "ssh/id_ed25519"].map(|file| builder.join(file)));
        files
            .chain(["id_ed25519", "id_work"].map(|key| self.path("home/.ssh").join(key)))
            .filter(|file| file.is_file())
            .collect()
    }

    /// What stands in those.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap_or_default();
        let files = self.secret_files().into_iter();
        files.flat_map(|file| Secret::in_file(&file.display().to_string(), &read(&file))).collect()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs a program as this person, in [`Self::work`].
    #[must_use]
    pub fn call(&self, program: impl AsRef<Path>) -> Call {
        let mut call = setting().engine.as_its_user(program.as_ref());
        if let Some(file) = &self.storage {
            call = call.env("CONTAINERS_STORAGE_CONF", file);
        }
        let call = call.in_dir(self.work()).env("HOME", self.home()).env("USER", &self.name);
        call.env("LOGNAME", &self.name)
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_STATE_HOME", self.path("state"))
            .env("XDG_CACHE_HOME", self.path("cache"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_AUTHOR_NAME", &self.name)
            .env("GIT_AUTHOR_EMAIL", "t@example.org")
            .env("GIT_COMMITTER_NAME", &self.name)
            .env("GIT_COMMITTER_EMAIL", "t@example.org")
            .env("LC_ALL", "C.UTF-8")
            .without("SSH_AUTH_SOCK")
            .without("XDG_DATA_DIRS")
    }

    /// Runs the client in [`Self::work`].
    #[must_use]
    pub fn cli(&self) -> Call {
        self.call(&setting().cli)
    }
}

impl Default for Person {
    fn default() -> Self {
        Self::new()
    }
}

/// Somebody who uses a builder that another person has made.
#[derive(Debug)]
pub struct Other {
    /// Who.
    pub person: Person,
}

impl Other {
    /// The client, run by them.
    #[must_use]
    pub fn cli<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Call {
        self.person.cli().args(args)
    }
}
