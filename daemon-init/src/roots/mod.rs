//! What keeps store paths from collection: what of it is ours to make and to take away, and all of it as a list.

mod beneath;
mod find;
mod forgotten;
pub mod named;
mod sizes;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::files;
use agent::paths::Paths;
use contract::config::Config;
use contract::exit::Exit;
use contract::roots::Root;

/// Folder of the images' roots, below Nix's `gcroots`; one folder per image in it.
pub(crate) const IMAGES: &str = "trampoline";
/// Folder of what is in use. Not in that of the images' roots: what is there is the previous image's until it goes.
pub(crate) const IN_USE: &str = "trampoline-in-use";

/// Folder of those with a name.
const NAMED: &str = "trampoline-named";

/// Nix's folder of roots.
pub(crate) fn gcroots(paths: &Paths) -> PathBuf {
    paths.nix.join("var/nix/gcroots")
}

/// Roots could not be listed or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the operating system.
    #[error("{doing} {}", path.display())]
    Io {
        /// Verb.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Writing a file.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// What was asked for is wrong.
    #[error("{0}")]
    Usage(String),
    /// Of another path.
    #[error("{name} is the name of a root already, of {}; remove that first (roots rm), or choose another name", path.display())]
    NameTaken {
        /// It.
        name: String,
        /// What it holds.
        path: PathBuf,
    },
    /// Nothing that could be held.
    #[error(
        "{0} is not in the builder's store (any more): build it, or bring it there (copy-closure), and try again"
    )]
    NotValid(String),
    /// Nothing that could be removed.
    #[error("no root is called {0}; `roots ls` lists them")]
    NoSuchName(String),
    /// It says no, or nothing.
    #[error("ask nix-daemon")]
    Daemon(#[from] worker_protocol::Error),
    /// Whoever asked is gone.
    #[error("tell of it")]
    Told(#[source] io::Error),
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Io { .. } | Self::Files(_) | Self::Told(_) => Exit::Io,
            Self::Usage(_) | Self::NotValid(_) | Self::NoSuchName(_) => Exit::Usage,
            Self::NameTaken { .. } => Exit::InUse,
            Self::Daemon(_) => Exit::ChildFailed,
        }
    }
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { doing, path: path.to_owned(), source }
}

/// All of them, by kind.
///
/// # Errors
/// When a folder of Nix's own cannot be read.
pub fn list(paths: &Paths) -> Result<Vec<Root>, Error> {
    Ok(told(find::all(paths, agent::unix_now())?))
}

/// The same, with what each holds alive. `progress` hears how many paths were looked at, and may end it.
///
/// # Errors
/// As [`list`], or when the daemon does not answer.
pub fn list_with_sizes(
    paths: &Paths,
    config: &Config,
    progress: impl FnMut(usize) -> io::Result<()>,
) -> Result<Vec<Root>, Error> {
    let mut progress = progress;
    let mut found = find::all(paths, agent::unix_now())?;
    let mut connection = named::connect(paths)?;
    let keeps = sizes::keeps_derivations(config);
    sizes::measure(&mut connection, &mut found, keeps, |looked| progress(looked).map_err(Error::Told))?;
    Ok(told(found))
}

/// Has Nix forget what is older than `age` and let go by its age alone; with `dry_run` only says which that is.
///
/// # Errors
/// When a folder of Nix's own cannot be read or changed.
pub fn let_go(paths: &Paths, age: Duration, dry_run: bool) -> Result<Vec<Root>, Error> {
    let now = agent::unix_now();
    if dry_run { Ok(told(forgotten::find(paths, age, now)?)) } else { forgotten::forget(paths, age, now) }
}

fn told(found: Vec<find::Found>) -> Vec<Root> {
    found.into_iter().map(|found| found.root).collect()
}
