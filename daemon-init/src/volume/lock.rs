//! Who may write to the volume.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::seed::error::StoreError;

/// A lock file of root's, made where it is missing; its content stays.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(path)
}

/// Takes the lock, waiting a little: a killed run's child may still be at its end. `volume` is for the message.
pub(super) fn take(file: File, wait: Duration, volume: &Path) -> Result<Flock<File>, StoreError> {
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, error)) => return Err(StoreError::io("lock", volume, error.into())),
    };
    // There is no flock with a deadline. A thread that gets the lock too late finds nobody to give it to, and with
    // that lets go of it.
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(Flock::lock(file, FlockArg::LockExclusive));
    });
    match receiver.recv_timeout(wait) {
        Ok(Ok(lock)) => Ok(lock),
        Ok(Err((_, error))) => Err(StoreError::io("lock", volume, error.into())),
        Err(_) => Err(StoreError::InUse { path: volume.into() }),
    }
}

/// The same on a folder, which changes nothing on the volume; `None` where a file system locks files only (NFS).
pub(super) fn take_folder(
    folder: &File,
    wait: Duration,
    volume: &Path,
) -> Result<Option<Flock<File>>, StoreError> {
    let copy = folder.try_clone().map_err(|e| StoreError::io("open", volume, e))?;
    match take(copy, wait, volume) {
        Ok(lock) => Ok(Some(lock)),
        Err(StoreError::Io { source, .. })
            if matches!(
                source.raw_os_error().map(Errno::from_raw),
                Some(Errno::EBADF | Errno::ENOLCK | Errno::EOPNOTSUPP | Errno::EINVAL)
            ) =>
        {
            Ok(None)
        }
        Err(other) => Err(other),
    }
}
