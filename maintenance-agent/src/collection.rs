//! A collection, in steps.

use std::time::{Duration, Instant};

use agent::files;
use agent::paths::Paths;
use agent::proc;
use contract::handshake::Life;
use contract::in_use::{GRACE, Grace};
use contract::places::Container;
use worker_protocol::GcOutcome;

use crate::before;
use crate::conversation::{self, Error};
use crate::cut::Cut;
use crate::pace::Pace;
use crate::turn;

/// As Nix says it.
const DELETING: &str = "deleting '";

/// What to delete.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Stop when so many bytes are free again.
    pub max_freed: Option<u64>,
    /// Only what came into the store so long ago. `None`: the configured window.
    pub older_than: Option<Duration>,
}

/// What is told of it while it goes on.
#[derive(Debug, Clone, Copy)]
pub enum News<'a> {
    /// So many paths have been deleted, which have given free so many bytes (known at the end of each step).
    Deleted(GcOutcome),
    /// Something that Nix says.
    Line(&'a str),
}

/// Tells daemon-init what to spare for as long as this is there.
#[derive(Debug)]
struct Announced<'a> {
    paths: &'a Paths,
    is: bool,
}

impl<'a> Announced<'a> {
    fn new(paths: &'a Paths, life: &Life, older_than: Option<Duration>) -> Result<Self, Error> {
        let Some(window) = older_than else { return Ok(Self { paths, is: false }) };
        let by = proc::ourselves(&paths.proc).map_err(Error::Ourselves)?;
        let grace = Grace { life: life.clone(), by, seconds: window.as_secs() };
        files::write_json(&paths.run_dir(Container::Maintenance), GRACE, &grace).map_err(Error::Announce)?;
        Ok(Self { paths, is: true })
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        if self.is {
            // It says nothing once this process is gone.
            let _ = files::withdraw(&self.paths.run_dir(Container::Maintenance).join(GRACE));
        }
    }
}

fn await_gate(paths: &Paths) {
    if let Err(error) = agent::in_use::await_gate(paths) {
        tracing::warn!(%error, "a step of the collection may go by what was in use before");
    }
}

/// Deletes what is dead.
///
/// # Errors
/// See [`Error`]. What was deleted until then stays deleted, and has been told.
pub fn collect(
    paths: &Paths,
    life: &Life,
    cut: &Cut,
    bounds: Bounds,
    news: &mut dyn FnMut(News<'_>),
) -> Result<GcOutcome, Error> {
    let _turn = turn::take(paths, || news(News::Line(turn::WAITS)))?;
    before::let_go(paths, life, false, &mut |line| news(News::Line(line)));
    let _announced = Announced::new(paths, life, bounds.older_than)?;
    let mut all = GcOutcome::default();
    let mut pace = Pace::default();
    loop {
        await_gate(paths);
        let left = bounds.max_freed.map(|most| most.saturating_sub(all.bytes_freed));
        let budget = left.map_or(pace.budget(), |left| left.min(pace.budget()));
        let (begun, mut first, mut deleted) = (Instant::now(), None, 0);
        let step = conversation::delete_dead(paths, life, cut, Some(budget), &mut |line| {
            if !line.starts_with(DELETING) {
                return news(News::Line(line));
            }
            first.get_or_insert_with(|| begun.elapsed());
            deleted += 1;
            news(News::Deleted(GcOutcome { paths: all.paths + deleted, ..all }));
        })?;
        let took = begun.elapsed();
        all.paths += step.paths;
        all.bytes_freed = all.bytes_freed.saturating_add(step.bytes_freed);
        news(News::Deleted(all));
        // It stops as soon as it has freed more than it may.
        let is_over =
            step.bytes_freed <= budget || bounds.max_freed.is_some_and(|most| all.bytes_freed >= most);
        tracing::debug!(
            paths = step.paths,
            freed = step.bytes_freed,
            ?took,
            ?first,
            "a step of the collection"
        );
        if is_over {
            return Ok(all);
        }
        pace = pace.after(step, took, first.unwrap_or_default());
    }
}

/// What [`collect`] would delete, without a bound on what is freed. Bytes are the sum of the sizes: less may become free where files
/// are linked.
///
/// # Errors
/// See [`Error`].
pub fn find(
    paths: &Paths,
    life: &Life,
    cut: &Cut,
    bounds: Bounds,
    news: &mut dyn FnMut(News<'_>),
) -> Result<GcOutcome, Error> {
    let _turn = turn::take(paths, || news(News::Line(turn::WAITS)))?;
    before::let_go(paths, life, true, &mut |line| news(News::Line(line)));
    let _announced = Announced::new(paths, life, bounds.older_than)?;
    await_gate(paths);
    conversation::find_dead(paths, life, cut, &mut |line| news(News::Line(line)))
}
