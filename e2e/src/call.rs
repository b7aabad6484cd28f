//! A program that is about to run, with a deadline.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::output::Output;
use crate::process::Live;

/// Time for a command that has to start a builder first, on a busy machine.
const DEADLINE: Duration = Duration::from_secs(180);

/// A command that is about to run.
#[derive(Debug)]
pub struct Call {
    command: Command,
    input: Option<Vec<u8>>,
    deadline: Duration,
}

impl Call {
    /// A program with nothing on its standard input.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self { command: Command::new(program), input: None, deadline: DEADLINE }
    }

    /// Appends one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.command.arg(arg);
        self
    }

    /// Appends arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Takes a variable away.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.command.env_remove(name);
        self
    }

    /// Working directory.
    #[must_use]
    pub fn in_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.command.current_dir(dir);
        self
    }

    /// Bytes for its standard input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = Some(bytes.into());
        self
    }

    /// Seconds until the scenario fails.
    #[must_use]
    pub fn within(mut self, seconds: u64) -> Self {
        self.deadline = Duration::from_secs(seconds);
        self
    }

    fn words(&self) -> Vec<OsString> {
        let program = self.command.get_program().to_owned();
        std::iter::once(program).chain(self.command.get_args().map(OsStr::to_owned)).collect()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started or does not end in time.
    #[must_use]
    pub fn run(self) -> Output {
        self.start().output()
    }

    /// Starts it; its standard input stays open unless [`Self::input`] was given.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start_typing(mut self) -> Live {
        self.command.stdin(Stdio::piped());
        self.begin()
    }

    /// Starts it.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut self) -> Live {
        self.command.stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() });
        self.begin()
    }

    fn begin(mut self) -> Live {
        let words: Vec<String> =
            self.words().iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let what = words.join(" ");
        let spawned = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = spawned.unwrap_or_else(|error| panic!("cannot start {what}: {error}"));
        let mut stdin = child.stdin.take();
        if let Some(bytes) = self.input
            && let Some(mut pipe) = stdin.take()
        {
            // A program that ends early breaks the pipe; its exit code tells the story.
            std::thread::spawn(move || drop(pipe.write_all(&bytes)));
        }
        Live::follow(what, child, stdin, self.deadline)
    }
}
