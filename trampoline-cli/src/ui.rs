//! How the program speaks: data on stdout, everything else on stderr.

use std::io::{self, BufRead, IsTerminal, Write};
use std::time::{Duration, Instant};

use contract::exit::Exit;
use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{CliError, Result, While};

/// Steps shorter than this leave no trace where stderr is no terminal.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// Chosen once from the global options.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ui {
    /// Data as JSON.
    pub(crate) json: bool,
    /// Nothing on stderr but errors and warnings.
    pub(crate) quiet: bool,
    /// Says which commands it runs.
    pub(crate) verbose: bool,
    /// stderr is a terminal: progress moves.
    pub(crate) tty: bool,
}

impl Ui {
    pub(crate) fn new(json: bool, quiet: bool, verbose: bool) -> Self {
        Self { json, quiet, verbose, tty: io::stderr().is_terminal() }
    }

    /// Something that a person wants to know.
    pub(crate) fn say(&self, line: impl AsRef<str>) {
        if !self.quiet {
            self.line(line.as_ref());
        }
    }

    /// Something that only a curious person wants to know.
    pub(crate) fn detail(&self, line: impl AsRef<str>) {
        if self.verbose {
            self.line(line.as_ref());
        }
    }

    /// Something that a person should look at, also with `--quiet`.
    pub(crate) fn warn(&self, line: impl AsRef<str>) {
        self.line(&format!("warning: {}", line.as_ref()));
    }

    fn line(&self, line: &str) {
        // Nobody is left to be told when stderr is gone.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// A line of data.
    pub(crate) fn data(&self, line: impl AsRef<[u8]>) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(line.as_ref()).and_then(|()| out.write_all(b"\n")).map_err(|e| CliError::stdout(&e))
    }

    /// Text as it is.
    pub(crate) fn raw(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| CliError::stdout(&e))
    }

    /// An object on stdout.
    pub(crate) fn object(&self, value: &impl serde::Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| CliError::new(Exit::Internal, format!("cannot write JSON: {error}")))?;
        self.data(text)
    }

    /// An object on a line of its own, for streams.
    pub(crate) fn event(&self, value: &serde_json::Value) -> Result<()> {
        self.data(value.to_string())
    }

    /// The last words of a command that failed.
    pub(crate) fn error(&self, error: &CliError) {
        if error.exit == Exit::Ok {
            return;
        }
        self.line(&format!("error: {error}"));
        if let Some(hint) = &error.hint {
            for (index, line) in hint.lines().enumerate() {
                self.line(&format!("{} {line}", if index == 0 { "hint:" } else { "     " }));
            }
        }
        if self.json {
            // stderr has said it already; a closed stdout changes nothing.
            let _ = self.event(&error.to_json());
        }
    }

    /// Begins something that may take a while.
    pub(crate) fn step(&self, what: impl Into<String>) -> Step {
        let what = what.into();
        let bar = (self.tty && !self.quiet).then(|| {
            let bar = ProgressBar::new_spinner().with_style(spinner()).with_message(what.clone());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Step { ui: *self, what, bar, since: Instant::now(), last: None }
    }

    /// Asks on the terminal; without one, `otherwise` says what to type instead.
    pub(crate) fn ask(&self, question: &str, otherwise: &str) -> Result<bool> {
        if !io::stdin().is_terminal() || !self.tty {
            return Err(CliError::usage(format!("{question} (no terminal to answer on)")).hint(otherwise));
        }
        let mut err = io::stderr();
        write!(err, "{question} [y/N] ").and_then(|()| err.flush()).during("cannot ask")?;
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).during("cannot read the answer")?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {msg} [{bar:30}] {bytes}/{total_bytes} {eta}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
}

/// Something that takes a while. Where stderr is no terminal, it leaves a line for each new message, and one at
/// its end if that took over a second.
pub(crate) struct Step {
    ui: Ui,
    what: String,
    bar: Option<ProgressBar>,
    since: Instant,
    last: Option<String>,
}

impl Step {
    /// What it is at now.
    pub(crate) fn at(&mut self, message: &str) {
        let line = format!("{}: {message}", self.what);
        if self.last.as_deref() == Some(line.as_str()) {
            return;
        }
        match &self.bar {
            Some(bar) => bar.set_message(line.clone()),
            None => self.ui.say(&line),
        }
        self.last = Some(line);
    }

    /// What it is at now, for a line that moves; elsewhere nothing.
    pub(crate) fn shows(&self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {message}", self.what));
        }
    }

    /// Bytes done of bytes known.
    pub(crate) fn progress(&mut self, done: u64, total: u64) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_style(bar_style());
                bar.set_length(total);
            }
            bar.set_position(done);
        }
    }

    /// A line above the moving one.
    pub(crate) fn print(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.ui.say(line)),
            None => self.ui.say(line),
        }
    }

    /// It is over; `message` stays.
    pub(crate) fn done(self, message: &str) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let took = self.since.elapsed();
        if took >= WORTH_A_LINE {
            self.ui.say(format!("{message} ({:.1} s)", took.as_secs_f64()));
        } else {
            self.ui.say(message);
        }
    }

    /// It is over, and nothing needs to be said.
    pub(crate) fn clear(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// `1.5 GiB`, for people.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    for (unit, size) in UNITS {
        if n >= size {
            // Shown to one place: the loss of precision cannot be seen.
            #[allow(clippy::cast_precision_loss)]
            return format!("{:.1} {unit}", n as f64 / size as f64);
        }
    }
    format!("{n} B")
}

/// Columns as wide as they need, those that are not `shown` left out; the last one as it is.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], shown: impl Fn(usize) -> bool) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<_> =
        (0..N - 1).filter(|column| shown(*column)).map(|column| (column, width(column))).collect();
    let line = |row: &[String; N]| {
        let cells = widths.iter().map(|(column, width)| format!("{:<width$}  ", row[*column]));
        cells.collect::<String>() + &row[N - 1]
    };
    rows.iter().map(line).collect()
}

/// `3 min ago`, `in 12 min`, for people.
pub(crate) fn ago(at: u64, now: u64) -> String {
    if at > now { format!("in {}", span(at - now)) } else { format!("{} ago", span(now - at)) }
}

/// `3 min`, for people.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} days", seconds / 86400),
    }
}

/// Seconds since the epoch.
pub(crate) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
