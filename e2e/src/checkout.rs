//! A git repository that is pushed into a builder.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::call::Call;
use crate::output::Output;
use crate::person::Person;
use crate::setting::setting;

/// A git repository of a builder's person.
#[derive(Debug)]
pub struct Checkout {
    person: Arc<Person>,
    dir: PathBuf,
}

impl Checkout {
    pub(crate) fn new(person: &Arc<Person>, project: &str, files: &[(&str, &str)]) -> Self {
        let dir = person.work().join(project);
        let checkout = Self { person: Arc::clone(person), dir };
        person.call("git").args(["init", "-q", "-b", "main"]).arg(&checkout.dir).run().ok();
        for (name, text) in files {
            checkout.write(name, text);
        }
        checkout.commit();
        checkout
    }

    /// A clone beside it, of another folder name.
    #[must_use]
    pub fn cloned(&self, folder: &str) -> Self {
        let dir = self.person.work().join(folder);
        self.person.call("git").args(["clone", "-q"]).arg(&self.dir).arg(&dir).run().ok();
        Self { person: Arc::clone(&self.person), dir }
    }

    /// Its folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes a file.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write(&self, name: &str, text: &str) {
        let file = self.dir.join(name);
        std::fs::create_dir_all(file.parent().expect("it is in the checkout")).expect("a folder of ours");
        std::fs::write(&file, text).expect("a folder of ours");
        setting().engine.hand_over(&file);
    }

    /// Runs git in it.
    #[must_use]
    pub fn git<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Output {
        self.person.call("git").in_dir(&self.dir).args(args).run()
    }

    /// A program of this machine, run in it.
    #[must_use]
    pub fn call(&self, program: &str) -> Call {
        self.person.call(program).in_dir(&self.dir)
    }

    /// Commits all that is in it.
    pub fn commit(&self) {
        self.git(["add", "-A"]).ok();
        self.git(["commit", "-q", "--allow-empty", "-m", "more"]).ok();
    }

    /// The client, in this checkout.
    #[must_use]
    pub fn cli<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Call {
        self.person.cli().in_dir(&self.dir).args(args)
    }

    /// Runs a shell line in the pushed tree.
    #[must_use]
    pub fn shell(&self, line: &str) -> Output {
        self.cli(["shell", "--", "sh", "-c", line]).run()
    }
}
