//! What is asked of the daemon. These calls block, some for minutes: on a thread of their own, to be cut short through
//! [`Cut`].

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent::paths::Paths;
use agent::{files, in_use};
use contract::handshake::Life;
use contract::in_use::is_name;
use contract::places::Container;
use worker_protocol::{Connection, GcAction, GcOutcome, Message};

use crate::turn;

/// A daemon that accepted a connection and says nothing for so long is not well.
const ANSWER: Duration = Duration::from_secs(10);
/// Between two pieces of an answer while the store is measured: the daemon reads its whole database first.
const MEASURE: Duration = Duration::from_secs(300);
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
    #[error("nothing is collected")]
    Turn(#[from] turn::Error),
    /// daemon-init cannot be told what to spare.
    #[error("nothing is collected: say which paths are old enough")]
    Announce(#[source] files::Error),
    /// What must be spared is not known.
    #[error("nothing is collected: try again, or start the builder anew (down --now, up)")]
    InUse(#[from] in_use::Error),
}

/// Ends conversations from another thread: the daemon notices, and stops what it does for us.
#[derive(Debug, Default)]
pub struct Cut {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    cut: bool,
    streams: Vec<UnixStream>,
}

impl Cut {
    /// Ends all of them, and those that would begin later.
    pub fn cut(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.cut = true;
        for stream in inner.streams.drain(..) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether it was.
    pub(crate) fn is_cut(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cut
    }

    fn add(&self, stream: UnixStream) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.cut {
            return Err(io::ErrorKind::Interrupted.into());
        }
        inner.streams.push(stream);
        Ok(())
    }
}

/// A conversation.
pub(crate) type Daemon = Connection<UnixStream>;

/// Connects; after the greeting the daemon may be silent for `silence`, or for ever.
pub(crate) fn open(paths: &Paths, cut: &Cut, silence: Option<Duration>) -> Result<Daemon, Error> {
    let path = paths.daemon_socket();
    let connect = || {
        let stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let other = stream.try_clone()?;
        cut.add(stream.try_clone()?)?;
        Ok((stream, other))
    };
    let (stream, other) = connect().map_err(|source| Error::Connect { path: path.clone(), source })?;
    let connection = Connection::open(stream)?;
    other.set_read_timeout(silence).map_err(|source| Error::Connect { path: path.clone(), source })?;
    Ok(connection)
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
fn open_sparing(paths: &Paths, life: &Life, cut: &Cut) -> Result<Connection<UnixStream>, Error> {
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

/// Links identical files to each other.
///
/// # Errors
/// See [`Error`].
pub fn optimise(paths: &Paths, cut: &Cut, log: &mut dyn FnMut(&str)) -> Result<(), Error> {
    let mut connection = open(paths, cut, None)?;
    connection.set_verbosity(WARNINGS)?;
    Ok(connection.optimise(&mut lines(log))?)
}

/// The daemon's messages, as far as they are lines for a person.
fn lines<'a>(log: &'a mut dyn FnMut(&str)) -> impl FnMut(Message) + use<'a> {
    |message| match message {
        Message::Line(text) | Message::Start { text, .. } if !text.trim().is_empty() => log(text.trim()),
        _ => {}
    }
}
