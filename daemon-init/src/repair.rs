//! A path of a store that serves, of which somebody says that it is damaged: we look ourselves, fetch it again where a substituter has
//! it, and else see to it that nobody is served it.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent::nar::{self, Cache};
use agent::paths::Paths;
use agent::status::chain;
use contract::damage::{Damaged, Fate, Found};
use contract::exit::Exit;
use contract::handshake::Life;
use contract::in_use::is_name;
use worker_protocol::{Connection, ValidPath};

use crate::damage;
use crate::seed::abort::Abort;
use crate::seed::error::StoreError;
use crate::seed::image::STORE_DIR;
use crate::seed::nix_store::NixStore;
use crate::seed::{self, mend, registration};
use crate::store;

/// A substituter that says nothing for so long is none.
const ANSWER: Duration = Duration::from_secs(120);

/// It could not be repaired, nor removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nonsense.
    #[error("{0:?} is not a store path")]
    NotAPath(String),
    /// nix-daemon, or the connection to it.
    #[error("ask nix-daemon on {} about a path", socket.display())]
    Daemon {
        /// Its socket.
        socket: PathBuf,
        /// Why.
        source: worker_protocol::Error,
    },
    /// A file of the path, which is not to blame itself.
    #[error("read {}", path.display())]
    Read {
        /// The path.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The image's Nix.
    #[error("remove what is damaged")]
    Store(#[from] StoreError),
    /// The image's Nix did not say what refers to it, or did not forget it.
    #[error("{0} is damaged and could not be removed while the builder serves")]
    Unclear(String),
    /// Which life this is.
    #[error("tell which life of the pod this is")]
    Life(#[source] io::Error),
    /// Whoever asked has gone.
    #[error("tell whoever has asked")]
    Told(#[from] io::Error),
}

impl Error {
    /// For whoever asked.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotAPath(_) => Exit::Usage,
            Self::Daemon { .. } | Self::Unclear(_) => Exit::ChildFailed,
            Self::Read { .. } | Self::Life(_) | Self::Told(_) => Exit::Io,
            Self::Store(error) => error.exit(),
        }
    }
}

/// Looks at a path, and repairs or removes it if it is damaged. `None`: nothing is wrong with it. `progress` is told what takes a while.
///
/// # Errors
/// See [`Error`].
pub fn repair(
    paths: &Paths,
    path: &str,
    progress: &dyn Fn(&str) -> io::Result<()>,
) -> Result<Option<Damaged>, Error> {
    // Two that remove each other's referrers would be in each other's way.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(name) = path.strip_prefix(STORE_DIR).filter(|name| is_name(name)) else {
        return Err(Error::NotAPath(path.to_owned()));
    };
    let place = paths.nix.join("store").join(name);
    let Some(valid) = asked(paths, |daemon| daemon.valid_path(path))? else { return Ok(None) };
    let Some(what) = wrong_with(&place, &valid)? else { return Ok(None) };
    let fate = if is_of_image(paths, path) {
        Fate::AtNextStart
    } else if fetched(paths, &place, &valid, progress)? {
        Fate::Fetched
    } else {
        progress("removing what no substituter has")?;
        match remove(paths, path) {
            Err(Error::Unclear(_)) => Fate::AtNextStart,
            removed => removed.map(|()| Fate::Removed)?,
        }
    };
    let damaged = Damaged { path: path.to_owned(), at: agent::unix_now(), found: Found::Verify, what, fate };
    damage::remember(&paths.mark_dir(), vec![damaged.clone()]);
    let life: Life = agent::life::current(paths).map_err(Error::Life)?;
    damage::publish(paths, &life);
    Ok(Some(damaged))
}

/// The image's store is below the volume by now: what it holds cannot be reached before the next start.
fn is_of_image(paths: &Paths, path: &str) -> bool {
    store::load(paths).is_ok_and(|image| image.manifest().paths.iter().any(|known| known == path))
}

/// Whether a substituter has given it back.
fn fetched(
    paths: &Paths,
    place: &Path,
    valid: &ValidPath,
    progress: &dyn Fn(&str) -> io::Result<()>,
) -> Result<bool, Error> {
    progress("asking the substituters")?;
    match asked(paths, |daemon| daemon.repair(&valid.path)) {
        Ok(()) => Ok(wrong_with(place, valid)?.is_none()),
        Err(error) => {
            tracing::info!(path = valid.path, "no substituter gives it back: {}", chain(&error));
            Ok(false)
        }
    }
}

/// With all that refers to it, whoever keeps it: a collection would spare what any root holds, temporary ones included, and whoever
/// builds with it would not know.
fn remove(paths: &Paths, path: &str) -> Result<(), Error> {
    let root = paths.nix.parent().unwrap_or(&paths.nix);
    let (nix, abort) = (NixStore::new(NixStore::find(&paths.nix)?, root), Abort::new());
    let text = nix.dump_db(None, &abort)?;
    let entries = registration::parse(&text).unwrap_or_default();
    // How that program ended may be unknown.
    if !entries.iter().any(|entry| entry.path == path) {
        return Err(Error::Unclear(path.to_owned()));
    }
    let order = mend::with_referrers(&entries, std::iter::once(path));
    let aside = mend::set_aside(&paths.mark_dir(), &paths.volume(), &order)?;
    nix.forget_missing(None, &abort)?;
    if asked(paths, |daemon| daemon.valid_path(path))?.is_some() {
        return Err(Error::Unclear(path.to_owned()));
    }
    for path in aside {
        seed::delete_tree(&path, &abort)?;
    }
    Ok(())
}

fn wrong_with(place: &Path, valid: &ValidPath) -> Result<Option<String>, Error> {
    match nar::hash(place, Cache::Keep, &mut |_| Ok(())) {
        Ok(archive) if archive.hash == valid.nar_hash => Ok(None),
        Ok(_) => Ok(Some("its content is not what was registered".to_owned())),
        Err(error) if nar::is_damage(&error) => Ok(Some(format!("parts of it cannot be read: {error}"))),
        Err(source) => Err(Error::Read { path: place.to_owned(), source }),
    }
}

fn asked<T>(
    paths: &Paths,
    question: impl FnOnce(&mut Connection<UnixStream>) -> worker_protocol::Result<T>,
) -> Result<T, Error> {
    let socket = paths.daemon_socket();
    let ask = || {
        let stream = UnixStream::connect(&socket)?;
        stream.set_read_timeout(Some(ANSWER))?;
        question(&mut Connection::open(stream)?)
    };
    ask().map_err(|source| Error::Daemon { socket: socket.clone(), source })
}
