//! Roots with a name, made by whoever runs the builder: a link into the store each, beside it what is known of it.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use agent::files;
use agent::paths::Paths;
use contract::roots::{NewRoot, Root, RootKind, check_name};
use serde::{Deserialize, Serialize};
use worker_protocol::Connection;

use super::beneath::Link;
use super::find::{Found, store_path};
use super::{Error, NAMED, gcroots, io_error};

/// nix-daemon answers from its database.
const ANSWER: Duration = Duration::from_secs(60);

/// `.NAME`, beside the link.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Note {
    /// Seconds since the epoch.
    #[serde(default)]
    added: u64,
    /// Seconds since the epoch; absent: it stays.
    #[serde(default)]
    expires: Option<u64>,
}

impl Note {
    /// A note that is damaged, or that a crash has taken, keeps its root.
    fn of(folder: &Path, name: &str) -> Self {
        files::read_json(&folder.join(note_name(name))).ok().flatten().unwrap_or_default()
    }

    fn has_expired(self, now: u64) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

fn note_name(name: &str) -> String {
    format!(".{name}")
}

fn folder(paths: &Paths) -> PathBuf {
    gcroots(paths).join(NAMED)
}

/// Changes are made by this process alone, and one after the other.
fn changing() -> MutexGuard<'static, ()> {
    static CHANGES: Mutex<()> = Mutex::new(());
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A link in our folder, if it counts.
pub(super) fn found(paths: &Paths, path: &Path, link: &Link, now: u64) -> Option<Found> {
    let name = path.file_name()?.to_str()?;
    let note = Note::of(&folder(paths), name);
    let target = store_path(paths, &link.target).filter(|_| !note.has_expired(now))?;
    let root = Root {
        kind: RootKind::Named,
        name: name.to_owned(),
        path: Some(target.clone()),
        since: Some(if note.added > 0 { note.added } else { link.modified }),
        expires: note.expires,
        holds: None,
    };
    Some(Found { root, targets: vec![target], entry: None })
}

/// Makes one; the same once more changes when it expires.
///
/// # Errors
/// A name that is none or is taken, a path that is not valid; nothing has changed then.
pub fn add(paths: &Paths, new: &NewRoot, now: u64) -> Result<Root, Error> {
    check_name(&new.name).map_err(Error::Usage)?;
    let target = store_path(paths, Path::new(&new.path)).filter(|path| *path == new.path);
    let target = target.ok_or_else(|| Error::Usage(format!("{} is not a store path", new.path)))?;
    let _changing = changing();
    let (folder, name) = (folder(paths), new.name.as_str());
    let link = folder.join(name);
    let before = Note::of(&folder, name);
    let existing = fs::read_link(&link).ok().filter(|_| !before.has_expired(now));
    if let Some(other) = existing.as_ref().filter(|other| *other != Path::new(&target)) {
        return Err(Error::NameTaken { name: name.to_owned(), path: other.clone() });
    }
    // From here on no collection takes it, until the root is there.
    let mut connection = connect(paths)?;
    connection.add_temp_root(&target)?;
    if connection.path_info(&target)?.is_none() {
        return Err(Error::NotValid(target));
    }
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(io_error("make", &folder)(error));
        }
        _ => {}
    }
    let added = if existing.is_some() && before.added > 0 { before.added } else { now };
    let note = Note { added, expires: new.ttl.map(|ttl| now.saturating_add(ttl)) };
    // First the note: a root without one would never expire.
    files::write_json_durably(&folder, &note_name(name), &note)?;
    if existing.is_none() {
        remove(&link)?;
        symlink(&target, &link).map_err(io_error("make", &link))?;
        sync(&folder)?;
    }
    Ok(Root {
        kind: RootKind::Named,
        name: name.to_owned(),
        path: Some(target),
        since: Some(added),
        expires: note.expires,
        holds: None,
    })
}

/// Takes one away. What it held goes with the next collection.
///
/// # Errors
/// When there is none of that name.
pub fn take_away(paths: &Paths, name: &str, now: u64) -> Result<(), Error> {
    check_name(name).map_err(Error::Usage)?;
    let _changing = changing();
    let folder = folder(paths);
    let there = fs::symlink_metadata(folder.join(name)).is_ok();
    if !there || Note::of(&folder, name).has_expired(now) {
        return Err(Error::NoSuchName(name.to_owned()));
    }
    drop_root(&folder, name)
}

/// Takes away what has expired; the names.
///
/// # Errors
/// When the folder cannot be read or one cannot be removed.
pub fn expire(paths: &Paths, now: u64) -> Result<Vec<String>, Error> {
    let _changing = changing();
    let folder = folder(paths);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io_error("list", &folder))?,
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut expired: Vec<String> = names.filter(|name| !name.starts_with('.')).collect();
    expired.retain(|name| Note::of(&folder, name).has_expired(now));
    for name in &expired {
        drop_root(&folder, name)?;
        tracing::info!(name, "a root has expired");
    }
    Ok(expired)
}

/// The link first: a note alone holds nothing.
fn drop_root(folder: &Path, name: &str) -> Result<(), Error> {
    remove(&folder.join(name))?;
    remove(&folder.join(note_name(name)))?;
    sync(folder)
}

fn remove(path: &Path) -> Result<(), Error> {
    Ok(files::withdraw(path)?)
}

fn sync(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))
}

/// To nix-daemon, which may be silent for a while where it works for others.
pub(super) fn connect(paths: &Paths) -> Result<Connection<UnixStream>, Error> {
    let socket = paths.daemon_socket();
    let stream = UnixStream::connect(&socket).map_err(io_error("connect to", &socket))?;
    stream.set_read_timeout(Some(ANSWER)).map_err(io_error("connect to", &socket))?;
    Ok(Connection::open(stream)?)
}
