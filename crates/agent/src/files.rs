//! Files that others read: whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use contract::handshake as hs;
use contract::in_use;
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use serde::{Serialize, de::DeserializeOwned};

/// Nothing that is published comes near it; a writer's mistake must not fill a reader's memory.
const LIMIT: u64 = 4 << 20;

/// Reading or writing failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the operating system.
    #[error("{what} {}", path.display())]
    Io {
        /// Verb, e.g. `write`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not the JSON that was agreed on.
    #[error("{} is not what it should be", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}

/// Replaces `dir/name` by `bytes` with `mode`. The temporary file is made with `O_EXCL | O_NOFOLLOW`, so that a link planted
/// in the folder is never followed; a leftover of a killed writer is removed first.
///
/// # Errors
/// When the folder is not ours to write.
pub fn write_bytes(dir: &Path, name: &str, mode: u32, bytes: &[u8]) -> Result<(), Error> {
    let temporary = dir.join(format!(".{name}.new"));
    match fs::remove_file(&temporary) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(io_error("remove", &temporary)(e)),
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(O_NOFOLLOW | O_CLOEXEC)
        .open(&temporary)
        .map_err(io_error("create", &temporary))?;
    file.write_all(bytes).map_err(io_error("write", &temporary))?;
    let target = dir.join(name);
    fs::rename(&temporary, &target).map_err(io_error("replace", &target))
}

/// As [`write_bytes`], world-readable JSON.
///
/// # Errors
/// As [`write_bytes`].
pub fn write_json<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), Error> {
    let mut bytes =
        serde_json::to_vec(value).map_err(|source| Error::Json { path: dir.join(name), source })?;
    bytes.push(b'\n');
    write_bytes(dir, name, 0o644, &bytes)
}

/// As [`write_json`], and on disk when it returns.
///
/// # Errors
/// As [`write_bytes`].
pub fn write_json_durably<T: Serialize>(dir: &Path, name: &str, value: &T) -> Result<(), Error> {
    write_json(dir, name, value)?;
    let path = dir.join(name);
    File::open(&path).and_then(|f| f.sync_all()).map_err(io_error("sync", &path))?;
    File::open(dir).and_then(|f| f.sync_all()).map_err(io_error("sync", dir))
}

/// Reads JSON that another wrote; `None` where there is no such file (or folder yet).
///
/// # Errors
/// When it cannot be read or is not a `T`.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    // Non-blocking and without following: the writer may be somebody who plants a pipe or a link.
    let file = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC).open(path);
    let file = match file {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(io_error("open", path)(e)),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT).read_to_end(&mut bytes).map_err(io_error("read", path))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Json { path: path.to_owned(), source })
}

/// Something that was published in one life of the pod.
pub trait Living {
    /// Which.
    fn life(&self) -> &hs::Life;
}

macro_rules! living {
    ($($t:ty),*) => { $(impl Living for $t { fn life(&self) -> &hs::Life { &self.life } })* };
}
living!(
    hs::Ready,
    hs::AgentStatus,
    hs::Drain,
    hs::DaemonActivity,
    hs::UserActivity,
    hs::StopRequest,
    hs::StopAck,
    hs::IdleStatus,
    hs::StoreStatus,
    hs::DiskFull,
    hs::Lives,
    contract::keys::BuilderKeys,
    contract::damage::Damage,
    contract::resources::Memory,
    contract::resources::BuildDir,
    in_use::Look,
    in_use::Grace,
    in_use::Asked,
    in_use::InUse,
    contract::tidy::Tidy,
    contract::tidy::Tidied
);

/// As [`read_json`]; also `None` for a file of another life.
///
/// # Errors
/// As [`read_json`].
pub fn read_live<T: DeserializeOwned + Living>(path: &Path, life: &hs::Life) -> Result<Option<T>, Error> {
    Ok(read_json::<T>(path)?.filter(|value| value.life() == life))
}

/// Removes a file that may not be there.
///
/// # Errors
/// Anything but its absence.
pub fn withdraw(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_error("remove", path)(e)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_planted_link_is_replaced_and_never_followed() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join("ready.json")).unwrap();
        std::os::unix::fs::symlink(&victim, dir.path().join(".ready.json.new")).unwrap();
        assert!(
            read_json::<u32>(&dir.path().join("ready.json")).is_err(),
            "reading must not follow it either"
        );
        write_json(dir.path(), "ready.json", &7u32).unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert_eq!(read_json::<u32>(&dir.path().join("ready.json")).unwrap(), Some(7));
    }

    #[test]
    fn a_pipe_in_its_place_does_not_block_the_reader() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        assert!(read_json::<u32>(&pipe).is_err());
    }

    #[test]
    fn another_life_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let ack = hs::StopAck { life: hs::Life("a:1".into()), generation: 3, work: 0 };
        write_json(dir.path(), "ack.json", &ack).unwrap();
        let path = dir.path().join("ack.json");
        assert_eq!(read_live::<hs::StopAck>(&path, &hs::Life("a:1".into())).unwrap(), Some(ack));
        assert_eq!(read_live::<hs::StopAck>(&path, &hs::Life("a:2".into())).unwrap(), None);
        assert_eq!(
            read_live::<hs::StopAck>(&dir.path().join("none"), &hs::Life("a:1".into())).unwrap(),
            None
        );
    }
}
