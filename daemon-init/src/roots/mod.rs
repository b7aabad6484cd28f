//! What keeps store paths from collection: what of it is ours to make and to take away, and all of it as a list.

mod beneath;
mod find;

use std::io;
use std::path::{Path, PathBuf};

use agent::paths::Paths;
use contract::exit::Exit;
use contract::roots::Root;

/// Folder of the images' roots, below Nix's `gcroots`; one folder per image in it.
pub(crate) const IMAGES: &str = "trampoline";
/// Folder of what is in use. Not in that of the images' roots: what is there is the previous image's until it goes.
pub(crate) const IN_USE: &str = "trampoline-in-use";

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
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Io { .. } => Exit::Io,
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
    Ok(find::all(paths)?.into_iter().map(|found| found.root).collect())
}
