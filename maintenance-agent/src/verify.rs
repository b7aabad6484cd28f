//! Reads the store bit by bit, so that a file that the disk has lost is found before somebody needs it. What is damaged is daemon-init's to
//! repair or to remove; it looks itself.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use agent::control::{self, ask};
use agent::nar::{self, Cache};
use agent::paths::Paths;
use agent::room::bytes;
use agent::status::chain;
use contract::config::Maintenance;
use contract::control::{Reply, Request};
use contract::damage::{Damaged, Slice, Verified};
use contract::handshake::Life;

use crate::conversation;
use crate::cut::Cut;
use crate::store;

/// In so long everything is read once.
const ROUND: Duration = Duration::from_secs(30 * 24 * 3600);
/// After a failure.
const RETRY: Duration = Duration::from_secs(3600);
/// Names that are held at a time: a large store needs no memory here.
const NAMES: usize = 1000;
/// After so many bytes it pauses as long as they took, so that the disk is there for others.
const PIECE: u64 = 4 << 20;
/// A pause at most.
const PAUSE: Duration = Duration::from_millis(100);
/// It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// A substituter is asked, and a path fetched.
const REPAIR: Duration = Duration::from_secs(600);
/// Between two lines of progress.
const TELL: Duration = Duration::from_secs(1);

/// It could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon did not answer.
    #[error(transparent)]
    Daemon(#[from] conversation::Error),
    /// daemon-init did not.
    #[error(transparent)]
    Control(#[from] control::Error),
    /// A file that is not to blame itself.
    #[error("read {path}")]
    Read {
        /// The store path.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// How much, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// About so many bytes, out of the way of everybody else.
    Slice(u64),
    /// All, at once.
    Whole,
}

/// Where reading has come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Read {
    /// What was read and what was found.
    pub found: Verified,
    /// The last path that was read whole.
    pub cursor: String,
    /// It was cut before the end.
    pub cut: bool,
}

/// When the next slice is due.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Due(Option<Instant>);

impl Due {
    /// The moment; one that has passed means now. `None`: never.
    pub(crate) fn at(self, config: &Maintenance, now: Instant) -> Option<Instant> {
        config.verify.map(|_| self.0.unwrap_or(now))
    }

    /// One has ended.
    pub(crate) fn ended(&mut self, outcome: &Result<Duration, Error>, now: Instant) {
        let pause = match outcome {
            Ok(pause) => *pause,
            Err(error) => {
                tracing::warn!("the store is not verified: {}", chain(error));
                RETRY
            }
        };
        self.0 = now.checked_add(pause);
    }
}

/// Reads a slice if one is due; says in what time the next one is.
///
/// # Errors
/// See [`Error`]; what was read until then is read again.
pub(crate) fn slice(paths: &Paths, life: &Life, config: &Maintenance, cut: &Cut) -> Result<Duration, Error> {
    let Some(interval) = config.verify else { return Ok(RETRY) };
    let last = recall(paths)?;
    if last == Slice::default() {
        // A new store, just written, by somebody who waits for it; its day comes.
        note(paths, Slice { at: agent::unix_now(), ..last })?;
        return Ok(interval);
    }
    // A clock that was set back makes it due.
    let ago = agent::unix_now().checked_sub(last.at).map_or(interval, Duration::from_secs);
    if ago < interval {
        return Ok(interval - ago);
    }
    let Some(status) = store::published(paths, life) else { return Ok(RETRY) };
    let most = share(status.nar_bytes, interval);
    let mut read = read(paths, cut, &last.cursor, Extent::Slice(most), &mut |_, _| {})?;
    let at = if read.cut { last.at } else { agent::unix_now() };
    note(paths, Slice { at, cursor: std::mem::take(&mut read.cursor) })?;
    let Verified { paths: count, bytes: size, damaged, failed } = &read.found;
    tracing::info!(
        paths = count,
        bytes = size,
        damaged = damaged.len(),
        cut = read.cut,
        "verified a slice of the store"
    );
    for one in damaged {
        tracing::error!(path = one.path, "damaged store path: {}; {}", one.what, one.fate.words());
    }
    for one in failed {
        tracing::error!("store path that is damaged or cannot be read, and stays as it is: {one}");
    }
    Ok(if read.cut { Duration::ZERO } else { interval })
}

/// Of so many bytes, what has to be read in one interval.
fn share(total: u64, interval: Duration) -> u64 {
    let share = u128::from(total) * interval.as_millis() / ROUND.as_millis();
    u64::try_from(share).unwrap_or(u64::MAX).min(total)
}

/// Reads from behind `cursor` on, a store path; from the first one again behind the last, if it is a slice. `progress` hears how many
/// paths and bytes were read.
///
/// # Errors
/// See [`Error`].
pub fn read(
    paths: &Paths,
    cut: &Cut,
    cursor: &str,
    extent: Extent,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Read, Error> {
    let mut read = Read { cursor: cursor.to_owned(), ..Read::default() };
    let mut daemon = conversation::open(paths, cut, None)?;
    let most = match extent {
        Extent::Slice(most) => most,
        Extent::Whole => u64::MAX,
    };
    loop {
        let names = match names_behind(paths, cut, &read.cursor) {
            Err(_) if cut.is_cut() => return Ok(Read { cut: true, ..read }),
            names => names?,
        };
        if names.is_empty() {
            // The next slice begins anew.
            read.cursor = String::new();
            return Ok(read);
        }
        for path in names {
            match one(paths, cut, &mut daemon, &path, extent, &mut read.found) {
                Err(_) if cut.is_cut() => return Ok(Read { cut: true, ..read }),
                done => done?,
            }
            read.cursor = path;
            progress(read.found.paths, read.found.bytes);
            if read.found.bytes >= most {
                return Ok(read);
            }
        }
    }
}

/// The next ones, in order.
fn names_behind(paths: &Paths, cut: &Cut, cursor: &str) -> Result<BTreeSet<String>, Error> {
    let mut names = BTreeSet::new();
    let mut daemon = conversation::open(paths, cut, None)?;
    let each = |path: &str| {
        let is_next = names.len() < NAMES || names.last().is_some_and(|last: &String| path < last.as_str());
        if path > cursor && is_next {
            names.insert(path.to_owned());
            if names.len() > NAMES {
                names.pop_last();
            }
        }
        Ok(())
    };
    daemon.all_valid_paths(each).map_err(conversation::Error::from)?;
    Ok(names)
}

/// No collection takes it away meanwhile.
fn one(
    paths: &Paths,
    cut: &Cut,
    daemon: &mut conversation::Daemon,
    path: &str,
    extent: Extent,
    found: &mut Verified,
) -> Result<(), Error> {
    daemon.add_temp_root(path).map_err(conversation::Error::from)?;
    let Some(valid) = daemon.valid_path(path).map_err(conversation::Error::from)? else { return Ok(()) };
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut pace = Pace { left: PIECE, since: Instant::now(), extent };
    let read =
        nar::hash(&paths.nix.join("store").join(name), Cache::Drop, &mut |bytes| pace.read(bytes, cut));
    found.paths += 1;
    found.bytes += valid.nar_size;
    match read {
        Ok(archive) if archive.hash == valid.nar_hash => Ok(()),
        Ok(_) => repaired(paths, path, found),
        Err(error) if nar::is_damage(&error) => repaired(paths, path, found),
        Err(source) if cut.is_cut() => Err(Error::Read { path: path.to_owned(), source }),
        // Nothing is said about it, and the rest is to be read all the same.
        Err(source) => {
            found.failed.push(format!("{path}: cannot be read: {source}"));
            Ok(())
        }
    }
}

fn repaired(paths: &Paths, path: &str, found: &mut Verified) -> Result<(), Error> {
    let request = Request::Repair { path: path.to_owned() };
    let asked = ask(&paths.daemon_control_socket(), &request, REPAIR, |reply| {
        if let Reply::Damaged(damaged) = reply {
            found.damaged.push(damaged);
        }
        Ok(())
    });
    match asked {
        // The rest is to be read all the same.
        Err(control::Error::Refused { message, .. }) => found.failed.push(format!("{path}: {message}")),
        asked => asked?,
    }
    Ok(())
}

struct Pace {
    left: u64,
    since: Instant,
    extent: Extent,
}

impl Pace {
    fn read(&mut self, bytes: u64, cut: &Cut) -> io::Result<()> {
        if cut.is_cut() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        self.left = self.left.saturating_sub(bytes);
        if self.left == 0 {
            if self.extent != Extent::Whole {
                std::thread::sleep(self.since.elapsed().min(PAUSE));
            }
            (self.left, self.since) = (PIECE, Instant::now());
        }
        Ok(())
    }
}

/// Where the last slice ended, in any life.
fn recall(paths: &Paths) -> Result<Slice, Error> {
    let mut slice = Slice::default();
    ask(&paths.daemon_control_socket(), &Request::LastSlice, PATIENCE, |reply| {
        if let Reply::Slice(last) = reply {
            slice = last;
        }
        Ok(())
    })?;
    Ok(slice)
}

fn note(paths: &Paths, slice: Slice) -> Result<(), Error> {
    Ok(ask(&paths.daemon_control_socket(), &Request::SliceRead(slice), PATIENCE, |_| Ok(()))?)
}

/// `once --verify`: all of it, for somebody who waits. Progress goes to `err`.
///
/// # Errors
/// See [`Error`].
pub(crate) fn whole(paths: &Paths, cut: &Cut, err: &mut impl Write) -> Result<Verified, Error> {
    let mut told = Instant::now();
    let progress = &mut |paths, size| {
        if told.elapsed() >= TELL {
            told = Instant::now();
            // A closed standard error is the reader's wish.
            let _ = writeln!(err, "{paths} paths, {} read so far", bytes(size));
        }
    };
    Ok(read(paths, cut, "", Extent::Whole, progress)?.found)
}

/// What was found, for a person.
pub(crate) fn words(found: &Verified) -> String {
    let mut text = format!("{} paths verified, {}", found.paths, bytes(found.bytes));
    match found.damaged.len() + found.failed.len() {
        0 => text.push_str("; nothing is damaged"),
        count => text.push_str(&format!("; {count} damaged")),
    }
    for one in &found.failed {
        text.push_str(&format!("\ndamaged or unreadable, and left as it is: {one}"));
    }
    for Damaged { path, what, fate, .. } in &found.damaged {
        text.push_str(&format!("\n{path}: {what}; {}", fate.words()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn in_thirty_days_everything_is_read() {
        assert_eq!(share(300, DAY), 10);
        assert_eq!(share(300, 60 * DAY), 300);
        assert_eq!(share(u64::MAX, ROUND), u64::MAX);
    }

    #[test]
    fn it_is_due_at_first_and_then_when_it_says() {
        let now = Instant::now();
        let config = contract::config::Config::default().maintenance;
        let mut due = Due::default();
        assert_eq!(due.at(&config, now), Some(now));
        due.ended(&Ok(DAY), now);
        assert_eq!(due.at(&config, now), Some(now + DAY));
        let never = Maintenance { verify: None, ..config };
        assert_eq!(due.at(&never, now), None);
    }
}
