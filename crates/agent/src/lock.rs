//! Locks that somebody waits for, and is told so.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Takes the file for itself alone; `waiting` is called where somebody else has it. As long as theirs takes, without end: the kernel
/// ends the lock of a process that is gone, and a signal ends one that waits.
///
/// # Errors
/// When the file system has no locks.
pub fn take(file: File, waiting: impl FnOnce()) -> Result<Flock<File>, Errno> {
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, Errno::EWOULDBLOCK)) => file,
        Err((_, errno)) => return Err(errno),
    };
    waiting();
    loop {
        file = match Flock::lock(file, FlockArg::LockExclusive) {
            Ok(lock) => return Ok(lock),
            Err((file, Errno::EINTR)) => file,
            Err((_, errno)) => return Err(errno),
        }
    }
}
