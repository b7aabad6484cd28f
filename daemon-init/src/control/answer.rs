//! From a question to what does it.

use std::io;
use std::time::{Duration, Instant};

use agent::control::Answer;
use agent::status::chain;
use contract::control::{Reply, Request};
use contract::exit::Exit;
use contract::roots::Root;

use super::Desk;
use crate::{collected, damage, repair, roots};

/// Between two lines of progress.
const PACE: Duration = Duration::from_secs(1);

/// What is said instead of an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// As a code.
    pub(crate) exit: Exit,
    /// For a person.
    pub(crate) message: String,
}

impl From<roots::Error> for Refusal {
    fn from(error: roots::Error) -> Self {
        Self { exit: error.exit(), message: chain(&error) }
    }
}

impl From<agent::files::Error> for Refusal {
    fn from(error: agent::files::Error) -> Self {
        Self { exit: Exit::Io, message: chain(&error) }
    }
}

impl From<repair::Error> for Refusal {
    fn from(error: repair::Error) -> Self {
        Self { exit: error.exit(), message: chain(&error) }
    }
}

impl From<io::Error> for Refusal {
    /// Whoever asked is gone.
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Io, message: error.to_string() }
    }
}

/// To the end: its last line says whether it was done.
pub(super) fn answer(desk: &Desk, request: Request, to: &Answer) {
    let last = match answered(desk, request, to) {
        Ok(()) => Reply::Done,
        Err(Refusal { exit, message }) => Reply::Refused { exit, message },
    };
    if let Err(error) = to.say(&last) {
        tracing::debug!(%error, ?last, "whoever asked is gone");
    }
}

fn answered(desk: &Desk, request: Request, to: &Answer) -> Result<(), Refusal> {
    let Desk { paths, config } = desk;
    match request {
        Request::Roots { sizes: false } => tell(to, roots::list(paths)?)?,
        Request::Roots { sizes: true } => {
            let mut told = Instant::now();
            let progress = |looked: usize| {
                if told.elapsed() < PACE {
                    return Ok(());
                }
                told = Instant::now();
                to.say(&Reply::Progress { message: format!("{looked} store paths looked at so far") })
            };
            tell(to, roots::list_with_sizes(paths, config, progress)?)?;
        }
        Request::LastSlice => to.say(&Reply::Slice(damage::slice(&paths.mark_dir())))?,
        Request::SliceRead(slice) => damage::note_slice(&paths.mark_dir(), &slice)?,
        Request::Repair { path } => {
            let progress = |message: &str| to.say(&Reply::Progress { message: message.to_owned() });
            if let Some(damaged) = repair::repair(paths, &path, &progress)? {
                to.say(&Reply::Damaged(damaged))?;
            }
        }
        Request::AddRoot(new) => {
            let root = roots::named::add(paths, &new, agent::unix_now())?;
            tracing::info!(name = root.name, path = root.path, expires = root.expires, "a root was added");
            tell(to, vec![root])?;
        }
        Request::LetGo { dry_run } => {
            let Some(age) = config.maintenance.auto_roots_max_age else { return Ok(()) };
            let gone = roots::let_go(paths, age, dry_run)?;
            if !dry_run && !gone.is_empty() {
                tracing::info!(
                    links = gone.len(),
                    "links that are older than auto-roots-max-age keep nothing any more"
                );
            }
            tell(to, gone)?;
        }
        Request::RemoveRoot { name } => {
            roots::named::take_away(paths, &name, agent::unix_now())?;
            tracing::info!(name, "a root was removed");
        }
        Request::LastCollection => {
            let at = collected::last(&paths.mark_dir(), agent::unix_now())?;
            to.say(&Reply::Collected { at })?;
        }
        Request::Collected { at } => collected::note(&paths.mark_dir(), at)?,
    }
    Ok(())
}

fn tell(to: &Answer, roots: Vec<Root>) -> io::Result<()> {
    roots.into_iter().try_for_each(|root| to.say(&Reply::Root(root)))
}
