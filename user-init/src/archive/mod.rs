//! Unpacking an archive that somebody else made: hostile input. Every entry is decided here; the `tar` crate only finds the
//! headers.
//!
//! The tree is normalised: files are 0644 or 0755 by their owner's exec bit, folders 0755, times come from the archive, owners
//! do not count. So the same archive always gives the same tree.

mod entries;
mod tree;

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub use entries::MAX_NAME;
use entries::{Kind, Reader};
use tree::Tree;

/// Why an archive is not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// It ends early or is no tar archive.
    #[error("it cannot be read: {0}")]
    Malformed(String),
    /// Absolute.
    #[error("the entry {0:?} has an absolute name")]
    Absolute(OsString),
    /// Leads out of the tree.
    #[error("the entry {0:?} has `..` in its name")]
    Parent(OsString),
    /// Empty, too long, or with a zero byte.
    #[error("the entry {0:?} has a name that no file can have")]
    Name(OsString),
    /// A part of its name is something that is no folder: nothing is written through a link.
    #[error("the entry {name:?} would be written through {at:?}, which is no folder")]
    Through {
        /// The entry.
        name: OsString,
        /// The part.
        at: OsString,
    },
    /// Replaces a folder by something else, or the other way round.
    #[error("the entry {0:?} would replace a folder, or a folder would replace it")]
    Replaces(OsString),
    /// A hard link to something that the archive does not hold.
    #[error("the hard link {name:?} leads to {target:?}, which is not in the archive")]
    HardLink {
        /// The entry.
        name: OsString,
        /// What it names.
        target: OsString,
    },
    /// A device, a pipe, a sparse file or something newer.
    #[error("the entry {name:?} is of a kind that is not taken ({kind})")]
    Kind {
        /// The entry.
        name: OsString,
        /// What it is.
        kind: String,
    },
    /// Of the operating system.
    #[error("{what} {name:?} in the new tree")]
    Io {
        /// Verb.
        what: &'static str,
        /// The entry.
        name: OsString,
        /// Why.
        source: io::Error,
    },
}

/// What was unpacked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files, links and folders.
    pub entries: u64,
    /// Latest time in the archive, seconds since the epoch; the root and folders that have no entry of their own carry it.
    pub latest: i64,
    /// Names at the root that begin with `result`: content, not links that a build made.
    pub results: Vec<OsString>,
}

/// Unpacks `archive` below the empty folder `root`. Reads up to the archive's end marker or the reader's end.
///
/// # Errors
/// At the first entry that is refused; what has been unpacked by then is the caller's to remove.
pub fn unpack(archive: impl Read, root: &std::path::Path) -> Result<Unpacked, Refused> {
    let mut tree = Tree::open(root)?;
    let mut reader = tar::Archive::new(archive);
    let mut entries = Reader::new(&mut reader)?;
    let mut done = Unpacked::default();
    while let Some(mut entry) = entries.next()? {
        let name = entry.name.clone();
        let path = relative(&name)?;
        done.latest = done.latest.max(entry.mtime);
        let Some((last, folders)) = path.split_last() else {
            // `./` names the root itself.
            if matches!(entry.kind, Kind::Folder) {
                continue;
            }
            return Err(Refused::Name(name));
        };
        if folders.is_empty() && last.as_bytes().starts_with(b"result") && !done.results.contains(last) {
            done.results.push(last.clone());
        }
        done.entries += 1;
        match &entry.kind {
            Kind::Folder => tree.folder(&name, &path, entry.mtime)?,
            Kind::File { executable } => {
                tree.file(&name, folders, last, *executable, entry.mtime, &mut entry.content)?;
            }
            Kind::Link { target } => tree.link(&name, folders, last, target, entry.mtime)?,
            Kind::HardLink { target } => {
                let refused = || Refused::HardLink { name: name.clone(), target: target.clone() };
                let target_path = relative(target).map_err(|_| refused())?;
                tree.hard_link(&name, folders, last, target, &target_path)?;
            }
        }
    }
    tree.finish(done.latest)?;
    Ok(done)
}

/// The parts of an entry's name, without `.`.
fn relative(name: &OsString) -> Result<Vec<OsString>, Refused> {
    let bytes = name.as_bytes();
    if bytes.starts_with(b"/") {
        return Err(Refused::Absolute(name.clone()));
    }
    if bytes.is_empty() || bytes.contains(&0) || bytes.len() > MAX_NAME {
        return Err(Refused::Name(name.clone()));
    }
    let mut parts = Vec::new();
    for part in bytes.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Refused::Parent(name.clone())),
            part => parts.push(std::ffi::OsStr::from_bytes(part).to_owned()),
        }
    }
    Ok(parts)
}

/// For messages.
fn joined(parts: &[OsString]) -> OsString {
    parts.iter().collect::<PathBuf>().into_os_string()
}
