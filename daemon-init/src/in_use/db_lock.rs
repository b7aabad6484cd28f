//! The lock of whoever writes Nix's database: while we have it, no path becomes valid and none is deleted, and all reading goes on.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::thread;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;

/// `WAL_WRITE_LOCK` in the index of the write-ahead log: <https://sqlite.org/walformat.html>, "WAL locks".
const WRITE_LOCK: libc::off_t = 120;
/// Writers have it for milliseconds.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two tries: there is no such lock with a deadline.
const AGAIN: Duration = Duration::from_millis(1);

/// The lock goes with it.
#[derive(Debug)]
pub(super) struct WriteLock {
    _file: File,
}

impl WriteLock {
    /// `None` where somebody else keeps it.
    ///
    /// # Errors
    /// When there is no such file, as in a store whose database has no write-ahead log, or when it cannot be locked.
    pub(super) fn take(paths: &Paths) -> io::Result<Option<Self>> {
        let path = paths.nix.join("var/nix/db/db.sqlite-shm");
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path)?;
        let wanted = libc::flock {
            l_type: libc::F_WRLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: WRITE_LOCK,
            l_len: 1,
            l_pid: 0,
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&wanted)) {
                Ok(_) => return Ok(Some(Self { _file: file })),
                Err(Errno::EAGAIN | Errno::EACCES) if Instant::now() < deadline => thread::sleep(AGAIN),
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}
