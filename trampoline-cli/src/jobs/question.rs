//! What Ctrl-C means: cancel, or leave the build to itself. Asked where somebody can answer.

use std::io::{self, BufRead, IsTerminal, Write};

use tokio::task::JoinHandle;

use crate::ui::Ui;

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// End the build.
    Cancel,
    /// Leave it to itself.
    Detach,
    /// It was a mistake.
    Follow,
}

impl Answer {
    fn read(line: &str) -> Self {
        match line.trim().to_lowercase().as_str() {
            "c" | "cancel" => Self::Cancel,
            "d" | "detach" => Self::Detach,
            _ => Self::Follow,
        }
    }
}

/// Asks on the terminal; the answer comes when it comes. Nothing where there is nobody to ask.
pub(super) fn ask(ui: Ui, id: &str) -> Option<JoinHandle<Answer>> {
    if !io::stdin().is_terminal() || !ui.tty {
        return None;
    }
    let mut err = io::stderr();
    // Where it cannot be read, it cannot be answered either.
    writeln!(err, "\ninterrupted; build {id} goes on in the builder").ok()?;
    write!(err, "c cancels it, d detaches, Enter follows it again, Ctrl-C detaches at once: ").ok()?;
    err.flush().ok()?;
    Some(tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        match io::stdin().lock().read_line(&mut line) {
            // The end of all input: nobody is there.
            Ok(0) | Err(_) => Answer::Detach,
            Ok(_) => Answer::read(&line),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers() {
        for (line, answer) in [
            ("c\n", Answer::Cancel),
            (" Cancel \n", Answer::Cancel),
            ("D\n", Answer::Detach),
            ("\n", Answer::Follow),
            ("what?\n", Answer::Follow),
        ] {
            assert_eq!(Answer::read(line), answer, "{line:?}");
        }
    }
}
