//! A command on a terminal of its own.

use std::ffi::OsStr;

use crate::call::Call;
use crate::output::Output;
use crate::process::Live;

/// What the interrupt key sends.
pub const CONTROL_C: &[u8] = b"\x03";

/// A command that runs on a pseudo-terminal, with the terminal's settings taken before and after.
#[derive(Debug)]
pub struct Terminal {
    live: Live,
}

impl Terminal {
    /// Runs a command in a shell on a terminal. `call` is of `script`, which makes terminals, in the right folder.
    #[must_use]
    pub fn run(call: Call, words: &[&OsStr]) -> Self {
        let quoted: Vec<String> = words.iter().map(|word| quote(&word.to_string_lossy())).collect();
        // The shell must outlive the key that ends the command, as a person's does.
        let line = format!(
            "trap : INT; echo before: $(stty -g); {}; echo \"code: $?\"; echo after: $(stty -g)",
            quoted.join(" ")
        );
        Self { live: call.args(["-qec", &line, "/dev/null"]).start_typing() }
    }

    /// Presses keys.
    pub fn press(&mut self, keys: &[u8]) {
        self.live.type_in(keys);
    }

    /// Waits until the screen shows a line with `part`.
    pub fn shows(&mut self, part: &str) -> String {
        self.live.line(part)
    }

    /// Waits for the end; gives what was on the screen and the command's exit code.
    ///
    /// # Panics
    /// If the terminal is not as it was before.
    #[must_use]
    pub fn end(self) -> (Output, i32) {
        let output = self.live.output();
        let told = |key: &str| {
            let mut lines = output.stdout.lines().filter_map(|line| line.trim().rsplit_once(key));
            lines
                .next_back()
                .map(|(_, rest)| rest.trim().to_owned())
                .unwrap_or_else(|| panic!("no {key:?} in {output}"))
        };
        assert_eq!(told("before: "), told("after: "), "the terminal's settings after {output}");
        let code = told("code: ").parse().expect("a shell's $? is a number");
        (output, code)
    }
}

fn quote(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
