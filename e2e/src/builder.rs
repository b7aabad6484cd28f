//! A builder and the checkouts that are pushed into it.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::call::Call;
use crate::checkout::Checkout;
use crate::engine::Held;
use crate::output::Output;
use crate::person::{Other, Person};
use crate::secrets;
use crate::setting::setting;

static BUILDERS: AtomicU32 = AtomicU32::new(0);

/// A cluster is told of what is no headline twice a minute.
const TOLD: Duration = Duration::from_secs(60);

/// A builder with a name that nobody else uses, described by a `trampoline.toml` above all checkouts of its person.
/// Dropped, it is taken away with its volumes; if its scenario has failed, its logs are kept.
#[derive(Debug)]
pub struct Builder {
    name: String,
    person: Arc<Person>,
    /// Which of its volumes is small, and what that is on.
    small: Option<(String, Held)>,
}

impl Builder {
    /// Describes one; nothing is made yet. `options` are dotted keys with their values as TOML.
    #[must_use]
    pub fn new(person: Person, options: &[(&str, &str)]) -> Self {
        let name = format!("t-{}-{}", std::process::id(), BUILDERS.fetch_add(1, Ordering::Relaxed));
        let builder = Self { name, person: Arc::new(person), small: None };
        builder.configure(options);
        builder
    }

    /// Described and set up.
    #[must_use]
    pub fn set_up(options: &[(&str, &str)]) -> Self {
        let builder = Self::new(Person::new(), options);
        builder.cli(["setup", "--yes"]).run().ok();
        builder
    }

    /// Described, with one of its volumes on a file system in memory that has these options of `mount`.
    #[must_use]
    pub fn with_small(volume: &str, mount: &str, options: &[(&str, &str)]) -> Self {
        let mut builder = Self::new(Person::new(), options);
        builder.small = Some((volume.to_owned(), setting().engine.make_small(&builder.name, volume, mount)));
        builder
    }

    /// Somebody else's view of the same builder.
    ///
    /// # Panics
    /// If their `trampoline.toml` cannot be written.
    #[must_use]
    pub fn seen_by(&self, person: Person) -> Other {
        let text = std::fs::read(self.file()).expect("it was written");
        std::fs::write(person.work().join("trampoline.toml"), text).expect("a folder of ours");
        Other { person }
    }

    /// Writes `trampoline.toml` anew.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure(&self, options: &[(&str, &str)]) {
        // First, so that a message that names a line names the same one on every engine.
        let mut all: Vec<(String, String)> =
            options.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let mut defaults = vec![
            ("builder.name".to_owned(), format!("{:?}", self.name)),
            ("builder.image".to_owned(), format!("{:?}", setting().image)),
        ];
        defaults.extend(setting().engine.options());
        // Nothing answers on a machine without a network, and asking costs seconds.
        defaults.push(("daemon.substituters".to_owned(), "[]".to_owned()));
        // What other tests leave on this machine's disk is none of a builder's business; and what tests delete is always new.
        for option in ["maintenance.collect-below", "maintenance.refuse-below"] {
            defaults.push((option.to_owned(), "\"0%\"".to_owned()));
        }
        defaults.push(("maintenance.grace-window".to_owned(), "\"0s\"".to_owned()));
        all.extend(defaults.into_iter().filter(|(key, _)| !options.iter().any(|(other, _)| other == key)));
        let mut text = String::new();
        for (key, value) in all {
            writeln!(text, "{key} = {value}").expect("memory");
        }
        std::fs::write(self.file(), text).expect("a folder of ours");
    }

    fn file(&self) -> PathBuf {
        self.person.work().join("trampoline.toml")
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whose it is.
    #[must_use]
    pub fn person(&self) -> &Person {
        &self.person
    }

    /// The client, above all checkouts.
    #[must_use]
    pub fn cli<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Call {
        self.person.cli().args(args)
    }

    /// A program of this machine, run by its person.
    #[must_use]
    pub fn call(&self, program: &str) -> Call {
        self.person.call(program)
    }

    /// What `status --json` says.
    #[must_use]
    pub fn status(&self) -> Value {
        self.cli(["status", "--json"]).run().ok().json()
    }

    /// One of `absent`, `starting`, `running`, `stopping`, `stopped`, `failed`.
    ///
    /// # Panics
    /// If `status` does not say.
    #[must_use]
    pub fn state(&self) -> String {
        let status = self.status();
        status["state"].as_str().unwrap_or_else(|| panic!("no state in {status}")).to_owned()
    }

    /// Asks `status` until it says this. A cluster is told of what is new a moment later, and at most once a second.
    ///
    /// # Panics
    /// If it does not within a minute.
    pub fn says(&self, text: &str) {
        let end = Instant::now() + TOLD;
        loop {
            let status = self.cli(["status"]).run().ok();
            if status.stdout.contains(text) {
                return;
            }
            assert!(Instant::now() < end, "no {text:?} in {status}");
        }
    }

    /// As [`Self::says`], of the object that `status --json` prints; returns it, also where it never holds.
    #[must_use]
    pub fn status_where(&self, holds: impl Fn(&Value) -> bool) -> Value {
        let end = Instant::now() + TOLD;
        loop {
            let status = self.status();
            if holds(&status) || Instant::now() >= end {
                return status;
            }
        }
    }

    /// What it says of being ready once that is another start's than `before`; also where it never is.
    #[must_use]
    pub fn ready_after(&self, before: &Value) -> Value {
        let old = [&before["start_time"], &Value::Null];
        let status = self.status_where(|status| !old.contains(&&status["pod"]["ready"]["start_time"]));
        status["pod"]["ready"].clone()
    }

    /// Runs a shell line in the builder.
    #[must_use]
    pub fn shell(&self, line: &str) -> Output {
        self.cli(["shell", "--", "sh", "-c", line]).run()
    }

    /// Lets builds of [`crate::nix_files::until_told`] end that have begun.
    pub fn let_builds_end(&self) {
        let tell = "told=; for f in $(find /trampoline/build -name until-told); do echo >$f; told=1; done; [ \"$told\" ]";
        setting().engine.as_root(&self.name, tell).ok();
    }

    /// What is broken in its store, or only half there; nothing, if it is whole.
    #[must_use]
    pub fn broken(&self) -> String {
        let check = "NIX_REMOTE= nix-store --verify --check-contents 2>&1 | \
                     grep -v '^\\(reading\\|checking\\) '; true";
        setting().engine.as_root(&self.name, check).ok().text().to_owned()
    }

    /// Waits until it has stopped, by the engine's own event.
    pub fn wait_stopped(&self, seconds: u64) {
        setting().engine.wait_stopped(&self.name, seconds);
    }

    /// A new repository with these files in one commit.
    #[must_use]
    pub fn checkout(&self, project: &str, files: &[(&str, &str)]) -> Checkout {
        Checkout::new(&self.person, project, files)
    }

    /// A new repository that has been pushed.
    #[must_use]
    pub fn pushed(&self, project: &str, files: &[(&str, &str)]) -> Checkout {
        let checkout = self.checkout(project, files);
        checkout.cli(["push-tarball"]).run().ok();
        checkout
    }

    /// Takes it away, with its volumes; what it has said is searched for secrets first.
    #[must_use]
    pub fn clean(&self) -> Output {
        let _ = secrets::search_logs(&self.name, &self.person.secrets());
        self.cli(["clean", "--delete-store", "--yes"]).run()
    }

    /// Writes what it says of itself into the folder for logs.
    pub fn keep_logs(&self) {
        let folder = setting().logs.join(&self.name);
        let mut text = String::new();
        for args in [&["status"][..], &["status", "--json"], &["logs"]] {
            let _ = writeln!(text, "{}", self.cli(args.iter().copied()).within(30).run());
        }
        let kept = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(folder.join("log"), text));
        let said = kept.map_or_else(|error| error.to_string(), |()| format!("kept in {}", folder.display()));
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr(),
            format_args!("logs of {}: {said}\n", self.name),
        );
    }
}

impl Drop for Builder {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        // A panic while one is under way would end all scenarios.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            if failed {
                self.keep_logs();
            }
            let volume = self.small.take().map(|(volume, _)| volume);
            let _ = self.clean();
            // The client removes none of a builder that is not there.
            if let Some(volume) = volume {
                setting().engine.remove_volume(&self.name, &volume);
            }
        }));
    }
}
