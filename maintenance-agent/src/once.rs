//! `once`: a collection that was asked for, run by the client through the engine's exec. A signal simply ends the process:
//! the daemon notices that its client is gone, and stops.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use agent::config::Watched;
use agent::paths::Paths;
use agent::room::bytes;
use agent::status::chain;
use agent::{life, published, ready};
use contract::config::{DURATION_FORM, SIZE_FORM, Size, parse_duration};
use contract::damage::Verified;
use contract::exit::Exit;
use contract::handshake::{GcSummary, Life, StopPhase, StopRequest, file};
use contract::places::Container;
use serde::Serialize;

use crate::collection::{self, Bounds, News};
use crate::conversation;
use crate::cut::Cut;
use crate::link::{self, Linked};
use crate::turn::Wanted;
use crate::{ASKED, memory, store, verify};

/// Between two lines of progress.
const PACE: Duration = Duration::from_secs(1);

/// What was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    /// Delete nothing.
    pub dry_run: bool,
    /// Link identical files afterwards, whatever the configuration says.
    pub optimise: bool,
    /// Delete nothing, but read the whole store.
    pub verify: bool,
    /// What to delete.
    pub bounds: Bounds,
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
                "--verify" => wish.verify = true,
                "--json" => wish.json = true,
                "--max-freed" => {
                    let text = words.next().ok_or("--max-freed needs a size")?;
                    let size =
                        Size::parse(text).ok_or_else(|| format!("--max-freed {text}: not {SIZE_FORM}"))?;
                    wish.bounds.max_freed = Some(size.bytes());
                }
                "--older-than" => {
                    let text = words.next().ok_or("--older-than needs a duration")?;
                    let age = parse_duration(text)
                        .ok_or_else(|| format!("--older-than {text}: not {DURATION_FORM}"))?;
                    wish.bounds.older_than = Some(age);
                }
                other => return Err(format!("unknown option {other} of once")),
            }
        }
        let others = Self { verify: false, json: false, ..wish.clone() } != Self::default();
        if wish.verify && others { Err("--verify goes with --json alone".to_owned()) } else { Ok(wish) }
    }
}

/// A refusal: the code, and why.
type Refusal = (Exit, String);

/// Does it; progress goes to `err`, the summary to `out`.
#[must_use]
pub fn once(paths: &Paths, wish: &Wish, out: &mut impl Write, err: &mut impl Write) -> Exit {
    let done = if wish.verify {
        verified(paths, err).and_then(|found| {
            tell(&found, verify::words, wish.json, out)?;
            let refusal =
                (Exit::ChildFailed, "some of it stays damaged: see above, and `logs daemon`".to_owned());
            if found.failed.is_empty() { Ok(()) } else { Err(refusal) }
        })
    } else {
        steps(paths, wish, err).and_then(|summary| tell(&summary, words, wish.json, out))
    };
    match done {
        Ok(()) => Exit::Ok,
        Err((exit, why)) => {
            say(err, &format!("maintenance-agent: {why}"));
            exit
        }
    }
}

/// The life in which the daemon serves.
fn served(paths: &Paths) -> Result<Life, Refusal> {
    let life = life::current(paths).map_err(|e| (Exit::Internal, format!("which life of the pod: {e}")))?;
    if ready::published(paths, &life).is_none() {
        return Err((Exit::Stopping, "the daemon is not ready; try again when it is".into()));
    }
    if stopping(paths, &life) {
        return Err((Exit::Stopping, "the builder is about to stop; try again".into()));
    }
    Ok(life)
}

fn verified(paths: &Paths, err: &mut impl Write) -> Result<Verified, Refusal> {
    served(paths)?;
    verify::whole(paths, &Cut::default(), err).map_err(|error| {
        let exit = match &error {
            verify::Error::Control(error) => error.exit(),
            verify::Error::Daemon(_) => Exit::ChildFailed,
            verify::Error::Read { .. } => Exit::Io,
        };
        (exit, format!("the store was not verified to its end: {}", chain(&error)))
    })
}

fn steps(paths: &Paths, wish: &Wish, err: &mut impl Write) -> Result<GcSummary, Refusal> {
    let life = served(paths)?;
    let config = Watched::load(&paths.config).map_err(|e| (Exit::Config, chain(&e)))?;
    let cut = Cut::default();
    let _wanted = Wanted::new(paths, &life);
    let mut progress = Progress { err, told: Instant::now() };
    let mut news = |news: News<'_>| progress.tell(news);
    let outcome = if wish.dry_run {
        collection::find(paths, &life, &cut, wish.bounds, &mut news)
    } else {
        collection::collect(paths, &life, &cut, wish.bounds, &mut news)
    };
    let outcome = outcome.map_err(daemon_failed)?;
    let err = progress.err;
    let mut summary = GcSummary {
        at: agent::unix_now(),
        paths: outcome.paths,
        freed_bytes: outcome.bytes_freed,
        optimised: false,
        dry_run: wish.dry_run,
        cause: ASKED.into(),
        free_bytes: store::room(paths).ok().map(|room| room.free_bytes),
        healed: store::published(paths, &life).and_then(|store| store.last_gc).map_or(0, |gc| gc.healed),
    };
    if wish.dry_run {
        return Ok(summary);
    }
    if wish.optimise || config.config().maintenance.optimise {
        let linked = link::until_work(paths, &life, &mut |line| say(err, line)).map_err(not_linked)?;
        match linked {
            Linked::All => summary.optimised = true,
            Linked::NotBegun => say(err, "not linking identical files: somebody works in the builder"),
            Linked::Cut => say(err, "no more identical files are linked: somebody began to work"),
        }
    }
    summary.at = agent::unix_now();
    memory::note(paths, summary.at);
    // The collection has been done; that its measure was not taken must not look like its failure.
    if let Err(error) = store::publish(paths, &life, config.config(), &cut, Some(summary.clone())) {
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

#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn not_linked(error: conversation::Error) -> Refusal {
    (
        Exit::ChildFailed,
        format!("garbage is collected, but identical files are not linked: {}", chain(&error)),
    )
}

/// The monitor has asked for a stop, or decided on one.
pub(crate) fn stopping(paths: &Paths, life: &Life) -> bool {
    let stop = published::read::<StopRequest>(paths, life, Container::ShutdownMonitor, file::STOP);
    stop.is_some_and(|stop| stop.phase != StopPhase::Open)
}

/// A line for a person. A closed standard error is the reader's wish.
fn say(err: &mut impl Write, line: &str) {
    let _ = writeln!(err, "{line}");
}

/// Thousands of paths are told as a number, once a second.
struct Progress<'a, W> {
    err: &'a mut W,
    told: Instant,
}

impl<W: Write> Progress<'_, W> {
    fn tell(&mut self, news: News<'_>) {
        match news {
            News::Line(line) => say(self.err, line),
            News::Deleted(so_far) if self.told.elapsed() >= PACE => {
                self.told = Instant::now();
                let (paths, freed) = (so_far.paths, bytes(so_far.bytes_freed));
                say(self.err, &format!("{paths} paths deleted so far, {freed} given free"));
            }
            News::Deleted(_) => {}
        }
    }
}

fn tell<T: Serialize>(
    summary: &T,
    words: impl FnOnce(&T) -> String,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Refusal> {
    let text =
        if json { serde_json::to_string(summary).map_err(io::Error::from) } else { Ok(words(summary)) };
    text.and_then(|text| writeln!(out, "{text}")).map_err(|e| (Exit::Io, format!("write the summary: {e}")))
}

/// The summary as a line.
#[must_use]
pub fn words(summary: &GcSummary) -> String {
    let (paths, freed) = (summary.paths, bytes(summary.freed_bytes));
    let done = if summary.dry_run { "would go, about" } else { "deleted," };
    let linked = if summary.optimised { "; identical files linked" } else { "" };
    let free = summary.free_bytes.map(|free| format!("; {} free now", bytes(free))).unwrap_or_default();
    format!("{paths} paths {done} {freed}{linked}{free}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Wish, String> {
        Wish::parse(&words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn wishes_are_read() {
        let all = parse(&["--dry-run", "--optimise", "--json", "--max-freed", "2Gi", "--older-than", "7d"])
            .unwrap();
        let bounds = Bounds { max_freed: Some(2 << 30), older_than: Some(Duration::from_secs(7 * 86_400)) };
        assert_eq!(all, Wish { dry_run: true, optimise: true, verify: false, bounds, json: true });
        assert_eq!(parse(&[]).unwrap(), Wish::default());
        for wrong in [
            &["--max-freed"][..],
            &["--verify", "--dry-run"],
            &["--max-freed", "much"],
            &["--older-than"],
            &["--older-than", "7"],
            &["--dry"],
            &["now"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_summary_reads_well() {
        let mut summary =
            GcSummary { paths: 3, freed_bytes: 3 << 19, optimised: true, ..GcSummary::default() };
        assert_eq!(words(&summary), "3 paths deleted, 1.5 MiB; identical files linked");
        (summary.dry_run, summary.optimised, summary.free_bytes) = (true, false, Some(3 << 30));
        assert_eq!(words(&summary), "3 paths would go, about 1.5 MiB; 3.0 GiB free now");
    }
}
