//! How a program has ended, and what it said.

use contract::exit::Exit;

/// What it said, and how it ended.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub what: String,
    /// Exit code; 128 and the signal's number if one ended it.
    pub code: i32,
    /// All of it. Bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// See `stdout`.
    pub stderr: String,
}

impl Output {
    /// It must have succeeded.
    ///
    /// # Panics
    /// With all that it said, if it did not.
    pub fn ok(self) -> Self {
        self.ended(0)
    }

    /// It must have ended with this code.
    ///
    /// # Panics
    /// See [`Self::ok`].
    pub fn ended(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {self}");
        self
    }

    /// It must have refused with this code, in words that hold `part`.
    ///
    /// # Panics
    /// See [`Self::ok`].
    pub fn refused(self, exit: Exit, part: &str) {
        let this = self.ended(i32::from(exit.code()));
        assert!(
            this.stderr.to_lowercase().contains(&part.to_lowercase()),
            "no {part:?} in the words of {this}"
        );
    }

    /// Its standard output without the last newline.
    #[must_use]
    pub fn text(&self) -> &str {
        self.stdout.strip_suffix('\n').unwrap_or(&self.stdout)
    }

    /// Its standard output, read as JSON.
    ///
    /// # Panics
    /// If it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not JSON ({error}): {self}"))
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}\n--- ended with {}\n--- stdout\n{}--- stderr\n{}---",
            self.what, self.code, self.stdout, self.stderr
        )
    }
}
