//! What is asked of the daemon. These calls block, some for minutes: on a thread of their own, to be cut short through
//! [`Cut`].

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use agent::paths::Paths;
use agent::{files, in_use, proc};
use contract::handshake::Life;
use contract::in_use::is_name;
use contract::places::Container;
use worker_protocol::{Connection, GcAction, GcOutcome, Message};

use crate::cut::Cut;
use crate::turn;

/// A daemon that accepted a connection and says nothing for so long is not well.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two pieces of an answer while the store is measured: the daemon reads its whole database first.
const MEASURE: Duration = Duration::from_secs(300);
/// Between two looks at the daemon's processes.
const LOOK: Duration = Duration::from_millis(2);
/// Nix's levels: warnings, and what is deleted.
const WARNINGS: u64 = 1;
const INFO: u64 = 3;

/// The daemon did not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It said no, or the conversation broke.
    #[error(transparent)]
    Protocol(#[from] worker_protocol::Error),
    /// Whether another collection of ours is under way is not known.
    #[error("the store is left as it is")]
    Turn(#[from] turn::Error),
    /// Which process we are is not known.
    #[error("the store is left as it is: look at our own process")]
    Ourselves(#[source] io::Error),
    /// Whether somebody works cannot be watched.
    #[error("identical files are not linked: watch what is published")]
    Watch(#[source] io::Error),
    /// daemon-init cannot be told what to spare.
    #[error("the store is left as it is: say which paths are old enough")]
    Announce(#[source] files::Error),
    /// What must be spared is not known.
    #[error("the store is left as it is: try again, or start the builder anew (down --now, up)")]
    InUse(#[from] in_use::Error),
}

/// A conversation. The daemon keeps what it holds for us until this goes.
#[derive(Debug)]
pub(crate) struct Daemon {
    connection: Connection<UnixStream>,
    _to_cut: Arc<UnixStream>,
}

impl Deref for Daemon {
    type Target = Connection<UnixStream>;

    fn deref(&self) -> &Self::Target {
        &self.connection
    }
}

impl DerefMut for Daemon {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.connection
    }
}

/// Connects; after the greeting the daemon may be silent for `silence`, or for ever.
pub(crate) fn open(paths: &Paths, cut: &Cut, silence: Option<Duration>) -> Result<Daemon, Error> {
    let path = paths.daemon_socket();
    let connect = || {
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let other = Arc::new(stream.try_clone()?);
        cut.add(&other)?;
        Ok((stream, other))
    };
    let (stream, other) = connect().map_err(|source| Error::Connect { path: path.clone(), source })?;
    let connection = Connection::open(stream)?;
    other.set_read_timeout(silence).map_err(|source| Error::Connect { path: path.clone(), source })?;
    Ok(Daemon { connection, _to_cut: other })
}

/// Number of valid paths and the sum of their sizes. One conversation tells the paths, a second each one's size, so that a
/// large store needs no memory here.
///
/// # Errors
/// See [`Error`].
pub fn measure(paths: &Paths, cut: &Cut) -> Result<(u64, u64), Error> {
    let mut names = open(paths, cut, Some(MEASURE))?;
    let mut infos = open(paths, cut, Some(MEASURE))?;
    let (mut count, mut bytes) = (0u64, 0u64);
    names.all_valid_paths(|path| {
        // Gone meanwhile: not counted.
        if let Some(info) = infos.path_info(path)? {
            count += 1;
            bytes = bytes.saturating_add(info.nar_size);
        }
        Ok(())
    })?;
    Ok((count, bytes))
}

/// Opens a conversation in which the daemon spares what the user's processes use: a root for each path, for as long as it
/// lasts. The daemon itself may not be able to see them.
fn open_sparing(paths: &Paths, life: &Life, cut: &Cut) -> Result<Daemon, Error> {
    let seen = in_use::ask(paths, life, Container::Maintenance, in_use::PATIENCE)?;
    // Of a user-init that does not serve, what it saw last.
    let seen = seen.or_else(|| in_use::last(paths, life));
    let store = paths.nix.join("store");
    let names = seen.into_iter().flat_map(|seen| seen.names).filter(|name| is_name(name));
    let spared: Vec<String> = names.map(|name| store.join(name).to_string_lossy().into_owned()).collect();
    let mut connection = open(paths, cut, None)?;
    connection.set_verbosity(INFO)?;
    match hold(&mut connection, &spared) {
        // A root needs a file, for which a full disk has no room. A collection of nothing gives free what Nix keeps for this, until the
        // next conversation begins.
        Err(worker_protocol::Error::Daemon(_)) => {
            open(paths, cut, None)?.collect_garbage(
                &GcAction::DeleteSpecific(Vec::new()),
                &mut |_| {},
                |_| {},
            )?;
            hold(&mut connection, &spared)?;
        }
        held => held?,
    }
    Ok(connection)
}

fn hold(connection: &mut Connection<UnixStream>, spared: &[String]) -> Result<(), worker_protocol::Error> {
    spared.iter().try_for_each(|path| connection.add_temp_root(path).map(drop))
}

/// One step of a collection: deletes what is dead, until `max_freed` bytes are free again where that is given.
///
/// # Errors
/// See [`Error`]. What was deleted until then stays deleted.
pub fn delete_dead(
    paths: &Paths,
    life: &Life,
    cut: &Cut,
    max_freed: Option<u64>,
    log: &mut dyn FnMut(&str),
) -> Result<GcOutcome, Error> {
    let mut connection = open_sparing(paths, life, cut)?;
    let action = GcAction::DeleteDead { max_freed };
    Ok(connection.collect_garbage(&action, &mut lines(log), |_| {})?)
}

/// What would be deleted. Bytes are the sum of the sizes: less may become free where files are linked.
///
/// # Errors
/// See [`Error`].
pub fn find_dead(
    paths: &Paths,
    life: &Life,
    cut: &Cut,
    log: &mut dyn FnMut(&str),
) -> Result<GcOutcome, Error> {
    let mut connection = open_sparing(paths, life, cut)?;
    let mut dead = Vec::new();
    let keep = |path: &str| dead.push(path.to_owned());
    let mut outcome = connection.collect_garbage(&GcAction::ReturnDead, &mut lines(log), keep)?;
    for path in dead {
        let size = connection.path_info(&path)?.map_or(0, |info| info.nar_size);
        outcome.bytes_freed = outcome.bytes_freed.saturating_add(size);
    }
    Ok(outcome)
}

/// Links identical files to each other. For that the daemon holds every path of the store, so that until it is over no collection of
/// ours begins.
///
/// # Errors
/// See [`Error`].
pub fn optimise(paths: &Paths, cut: &Cut, log: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let _turn = turn::take(paths, || log(turn::WAITS))?;
    let mut linked = || {
        let mut connection = open(paths, cut, None)?;
        connection.set_verbosity(WARNINGS)?;
        Ok(connection.optimise(&mut lines(log))?)
    };
    let linked = linked();
    await_workers(paths);
    linked
}

/// Waits until the daemon's processes that served us are gone. Nix writes whom one serves over its first argument.
fn await_workers(paths: &Paths) {
    let ours = std::process::id().to_string();
    let deadline = Instant::now() + ANSWER;
    let serves_us = |pid: i32| {
        let words = fs::read(paths.proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let mut words = words.split(|byte| *byte == 0);
        words.next().is_some_and(|program| program.ends_with(b"nix-daemon"))
            && words.next() == Some(ours.as_bytes())
    };
    // The kernel tells the end of children alone.
    while proc::processes(&paths.proc).is_ok_and(|all| all.iter().any(|(pid, ..)| serves_us(*pid))) {
        if Instant::now() >= deadline {
            return tracing::warn!(
                "a process of the daemon that linked files does not end: what it holds is not collected"
            );
        }
        thread::sleep(LOOK);
    }
}

/// The daemon's messages, as far as they are lines for a person.
fn lines<'a>(log: &'a mut dyn FnMut(&str)) -> impl FnMut(Message) + use<'a> {
    |message| match message {
        Message::Line(text) | Message::Start { text, .. } if !text.trim().is_empty() => log(text.trim()),
        _ => {}
    }
}
