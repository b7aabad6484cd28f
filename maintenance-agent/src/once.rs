//! `once`: a collection that was asked for, run by the client through the engine's exec. A signal simply ends the process:
//! the daemon notices that its client is gone, and stops.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use agent::config::Watched;
use agent::paths::Paths;
use agent::status::chain;
use agent::{life, published, ready};
use contract::config::{SIZE_FORM, Size};
use contract::exit::Exit;
use contract::handshake::{DaemonActivity, GcSummary, Life, StopPhase, StopRequest, file};
use contract::places::Container;

use crate::conversation::{self, Cut};
use crate::store;

/// Between two lines of progress.
const PACE: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Delete nothing.
    pub dry_run: bool,
    /// Link identical files afterwards, whatever the configuration says.
    pub optimise: bool,
    /// Stop when so many bytes are free again.
    pub max_freed: Option<u64>,
    /// The summary as JSON.
    pub json: bool,
}

impl Wish {
    /// Reads the words behind `once`.
    ///
    /// # Errors
    /// What is wrong with them, for a person.
    pub fn parse(words: &[String]) -> Result<Self, String> {
        let mut wish = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            match word.as_str() {
                "--dry-run" => wish.dry_run = true,
                "--optimise" => wish.optimise = true,
                "--json" => wish.json = true,
                "--max-freed" => {
                    let text = words.next().ok_or("--max-freed needs a size")?;
                    let size =
                        Size::parse(text).ok_or_else(|| format!("--max-freed {text}: not {SIZE_FORM}"))?;
                    wish.max_freed = Some(size.bytes());
                }
                other => return Err(format!("unknown option {other} of once")),
            }
        }
        Ok(wish)
    }
}

/// A refusal: the code, and why.
type Refusal = (Exit, String);

/// Does it; progress goes to `err`, the summary to `out`.
#[must_use]
pub fn once(paths: &Paths, wish: &Wish, out: &mut impl Write, err: &mut impl Write) -> Exit {
    match steps(paths, wish, err).and_then(|summary| tell(&summary, wish.json, out)) {
        Ok(()) => Exit::Ok,
        Err((exit, why)) => {
            say(err, &format!("maintenance-agent: {why}"));
            exit
        }
    }
}

fn steps(paths: &Paths, wish: &Wish, err: &mut impl Write) -> Result<GcSummary, Refusal> {
    let life = life::current(paths).map_err(|e| (Exit::Internal, format!("which life of the pod: {e}")))?;
    if ready::published(paths, &life).is_none() {
        return Err((Exit::Stopping, "the daemon is not ready; try again when it is".into()));
    }
    if stopping(paths, &life) {
        return Err((Exit::Stopping, "the builder is about to stop; try again".into()));
    }
    let config = Watched::load(&paths.config).map_err(|e| (Exit::Config, chain(&e)))?;
    let cut = Cut::default();
    let mut progress = Progress { err, deleted: 0, told: Instant::now() };
    let outcome = if wish.dry_run {
        conversation::find_dead(paths, &life, &cut, &mut |line| progress.line(line))
    } else {
        conversation::collect(paths, &life, &cut, wish.max_freed, &mut |line| progress.line(line))
    };
    let outcome = outcome.map_err(daemon_failed)?;
    let err = progress.err;
    let mut summary = GcSummary {
        at: agent::unix_now(),
        paths: outcome.paths,
        freed_bytes: outcome.bytes_freed,
        optimised: false,
        dry_run: wish.dry_run,
        cause: "asked".into(),
    };
    if wish.dry_run {
        return Ok(summary);
    }
    if wish.optimise || config.config().maintenance.optimise {
        if building(paths, &life) {
            say(err, "not linking identical files: a build is running");
        } else {
            say(err, "linking identical files...");
            conversation::optimise(paths, &cut, &mut |line| say(err, line)).map_err(daemon_failed)?;
            summary.optimised = true;
        }
    }
    summary.at = agent::unix_now();
    // The collection has been done; that its measure was not taken must not look like its failure.
    if let Err(error) = store::publish(paths, &life, &cut, Some(summary.clone())) {
        say(err, &format!("the store's size is not known now: {}", chain(&error)));
    }
    Ok(summary)
}

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn daemon_failed(error: conversation::Error) -> Refusal {
    match error {
        conversation::Error::InUse(_) => (Exit::Deadline, chain(&error)),
        _ => (Exit::ChildFailed, format!("the daemon did not collect: {}", chain(&error))),
    }
}

/// The monitor has asked for a stop, or decided on one.
pub(crate) fn stopping(paths: &Paths, life: &Life) -> bool {
    let stop = published::read::<StopRequest>(paths, life, Container::ShutdownMonitor, file::STOP);
    stop.is_some_and(|stop| stop.phase != StopPhase::Open)
}

/// A build is running, or nobody knows.
fn building(paths: &Paths, life: &Life) -> bool {
    let daemon = published::read::<DaemonActivity>(paths, life, Container::Daemon, file::ACTIVITY);
    daemon.is_none_or(|daemon| daemon.builds > 0)
}

/// A line for a person. A closed standard error is the reader's wish.
fn say(err: &mut impl Write, line: &str) {
    let _ = writeln!(err, "{line}");
}

/// Thousands of paths are told as a number, once a second.
struct Progress<'a, W> {
    err: &'a mut W,
    deleted: u64,
    told: Instant,
}

impl<W: Write> Progress<'_, W> {
    fn line(&mut self, line: &str) {
        if !line.starts_with("deleting '") {
            say(self.err, line);
            return;
        }
        self.deleted += 1;
        if self.told.elapsed() >= PACE {
            self.told = Instant::now();
            say(self.err, &format!("{} paths deleted so far", self.deleted));
        }
    }
}

fn tell(summary: &GcSummary, json: bool, out: &mut impl Write) -> Result<(), Refusal> {
    let text =
        if json { serde_json::to_string(summary).map_err(io::Error::from) } else { Ok(words(summary)) };
    text.and_then(|text| writeln!(out, "{text}")).map_err(|e| (Exit::Io, format!("write the summary: {e}")))
}

/// The summary as a line.
#[must_use]
pub fn words(summary: &GcSummary) -> String {
    #[expect(clippy::cast_precision_loss, reason = "for a person")]
    let mebibytes = summary.freed_bytes as f64 / f64::from(1 << 20);
    let paths = summary.paths;
    let done = if summary.dry_run { "would go, about" } else { "deleted," };
    let linked = if summary.optimised { "; identical files linked" } else { "" };
    format!("{paths} paths {done} {mebibytes:.1} MiB{linked}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wish, String> {
        Wish::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn wishes_are_read() {
        let all = parse(&["--dry-run", "--optimise", "--json", "--max-freed", "2Gi"]).unwrap();
        assert_eq!(all, Wish { dry_run: true, optimise: true, max_freed: Some(2 << 30), json: true });
        assert_eq!(parse(&[]).unwrap(), Wish::default());
        for wrong in [&["--max-freed"][..], &["--max-freed", "much"], &["--dry"], &["now"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_summary_reads_well() {
        let mut summary = GcSummary {
            at: 0,
            paths: 3,
            freed_bytes: 3 << 19,
            optimised: true,
            dry_run: false,
            cause: "asked".into(),
        };
        assert_eq!(words(&summary), "3 paths deleted, 1.5 MiB; identical files linked");
        (summary.dry_run, summary.optimised) = (true, false);
        assert_eq!(words(&summary), "3 paths would go, about 1.5 MiB");
    }
}
