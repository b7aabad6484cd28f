//! `daemon-init keys add`, `keys rm`: from beside the daemon-init that serves, which sees the file change and lets a new listener
//! of nix-daemon take the place of the old one.

use std::io::Read;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::published;
use agent::signals::{Signal, Signals};
use agent::wait::{Waiter, Wake};
use contract::exit::Exit;
use contract::handshake::{Drain, file};
use contract::keys::{self, BuilderKeys, KeySource};
use contract::places::Container;
use nix::fcntl::{Flock, FlockArg};

use super::{Error, TRUSTED, added, io_error, own, write};
use crate::volume::lock;

/// A listener starts within a second, on a machine that does anything at all.
const IN_FORCE: Duration = Duration::from_secs(30);
/// Beside the file, which is replaced.
const LOCK: &str = "trusted-keys.lock";
/// Longer lists are somebody's mistake.
const INPUT_MAX: u64 = 1 << 20;

/// What is to be done with the keys on standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Take their signatures from now on.
    Add,
    /// Take them no longer.
    Remove,
}

impl Error {
    /// For the process's end.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) | Self::NameTaken(_) => Exit::Usage,
            Self::Io { .. } | Self::Files(_) | Self::Damaged { .. } => Exit::Io,
            Self::Nix(_) => Exit::ChildFailed,
            Self::Stopping => Exit::Stopping,
            Self::NotInForce(_) => Exit::Deadline,
        }
    }
}

/// Changes the file and waits until a daemon serves that has read it. What is so already changes nothing.
///
/// # Errors
/// See [`Error`]; a key that is refused leaves all as it was.
pub fn change(paths: &Paths, change: Change) -> Result<(), Error> {
    let mut text = String::new();
    let stdin = std::io::stdin().lock().take(INPUT_MAX).read_to_string(&mut text);
    stdin.map_err(io_error("read", "/dev/stdin".as_ref()))?;
    let keys = keys::parse_list(&text).map_err(Error::Usage)?;
    if keys.is_empty() {
        return Err(Error::Usage("no public key on standard input".into()));
    }
    store(paths, change, &keys)?;
    await_in_force(paths, change, &keys)
}

/// Two clients may change them at once.
pub(super) fn store(paths: &Paths, change: Change, keys: &[String]) -> Result<(), Error> {
    let path = paths.mark_dir().join(LOCK);
    let file = lock::open(&path).map_err(io_error("open", &path))?;
    let _lock =
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| io_error("lock", &path)(e.into()))?;
    let before = added(paths)?;
    let mut after = before.clone();
    match change {
        Change::Remove => {
            if let Some(stranger) = keys.iter().find(|key| !before.contains(key)) {
                return Err(Error::Usage(format!("{} was not added", keys::name(stranger))));
            }
            after.retain(|key| !keys.contains(key));
        }
        Change::Add => {
            let own = own(paths)?;
            for key in keys {
                if let Some(other) = after.iter().chain([&own]).find(|k| keys::name(k) == keys::name(key)) {
                    if other == key {
                        continue;
                    }
                    return Err(Error::NameTaken(keys::name(key).to_owned()));
                }
                after.push(key.clone());
            }
        }
    }
    if after == before {
        return Ok(());
    }
    let text: String = after.iter().map(|key| format!("{key}\n")).collect();
    write(&paths.mark_dir(), TRUSTED, text.as_bytes())
}

fn await_in_force(paths: &Paths, change: Change, wanted: &[String]) -> Result<(), Error> {
    let dir = paths.run_dir(Container::Daemon);
    let waiting = || io_error("wait for a change in", &dir);
    let signals = Signals::install().map_err(waiting())?;
    let mut waiter = Waiter::new(&signals).map_err(waiting())?;
    waiter.watch_dir(&dir).map_err(waiting())?;
    let life = agent::life::current(paths).map_err(io_error("read", &paths.proc))?;
    let deadline = Instant::now() + IN_FORCE;
    loop {
        let now: Option<BuilderKeys> = published::read(paths, &life, Container::Daemon, file::KEYS);
        if now.is_some_and(|now| wanted.iter().all(|key| is_done(&now, change, key))) {
            return Ok(());
        }
        if published::read::<Drain>(paths, &life, Container::Daemon, file::DRAIN).is_some() {
            return Err(Error::Stopping);
        }
        match waiter.wait(Some(deadline)).map_err(waiting())? {
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => return Err(Error::Stopping),
            Wake::Deadline => return Err(Error::NotInForce(IN_FORCE.as_secs())),
            _ => {}
        }
    }
}

/// The configuration may name a key that was removed here.
fn is_done(now: &BuilderKeys, change: Change, key: &str) -> bool {
    match change {
        Change::Add => now.knows(key),
        Change::Remove => {
            !now.trusted.iter().any(|trusted| trusted.from == KeySource::Added && trusted.key == key)
        }
    }
}
