//! Processes that a build has left running: Nix ends all that its build user has before it lets go of the user's lock, but if the
//! worker itself is killed, nobody does.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;

use agent::proc;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::thread::{Uid, set_thread_res_uid};

/// Ends all processes of build users whose lock in `pool` (Nix's `userpool`, a file per user id) nobody holds. While they are ended we
/// hold it, so that no build gets that user. Returns the ids of the users that had any.
///
/// # Errors
/// When `/proc` or a lock cannot be read, or a user's processes cannot be ended.
pub(super) fn end(proc: &Path, pool: &Path) -> io::Result<Vec<u32>> {
    let alive = proc::processes(proc)?.into_iter().filter(|(_, _, stat)| !matches!(stat.state, 'Z' | 'X'));
    let owners: BTreeSet<u32> = alive.map(|(_, uid, _)| uid).filter(|uid| *uid != 0).collect();
    let mut ended = Vec::new();
    for uid in owners {
        let lock = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(pool.join(uid.to_string()));
        let lock = match lock {
            Ok(lock) => lock,
            // Nobody who builds.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(_held) => end_all_of(uid)?,
            // A build.
            Err((_, Errno::EWOULDBLOCK)) => continue,
            Err((_, error)) => return Err(error.into()),
        }
        ended.push(uid);
    }
    Ok(ended)
}

/// As that user, because root of a user namespace may lack the power over others; by a thread, of which alone the kernel then
/// takes that user for the owner. All at once, so that none can be forked away.
pub(super) fn end_all_of(uid: u32) -> io::Result<()> {
    let ender = thread::Builder::new().name("end".into()).spawn(move || {
        let user = Uid::from_raw(uid);
        set_thread_res_uid(user, user, user)?;
        match kill(Pid::from_raw(-1), Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(io::Error::from(error)),
        }
    });
    let ended = ender?.join().unwrap_or_else(|_| Err(io::Error::other("the thread that ends them failed")));
    // The kernel takes whoever changes their id for somebody with secrets; we have been root all along.
    let _ = nix::sys::prctl::set_dumpable(true);
    ended
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    /// Nobody's on a machine where tests run.
    const USER: u32 = 987_601;

    #[test]
    fn processes_are_ended_only_where_nobody_holds_the_lock() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        let pool = dir.path();
        let path = pool.join(USER.to_string());
        File::create(&path).unwrap();
        let sleeper = || Command::new("sleep").arg("1000").uid(USER).gid(USER).spawn().unwrap();
        let (mut first, mut second) = (sleeper(), sleeper());
        let proc = Path::new("/proc");
        let held = Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(end(proc, pool).unwrap(), Vec::<u32>::new());
        assert!(first.try_wait().unwrap().is_none(), "a build goes on");
        drop(held);
        assert_eq!(end(proc, pool).unwrap(), [USER]);
        for child in [&mut first, &mut second] {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(9));
        }
        assert_eq!(end(proc, pool).unwrap(), Vec::<u32>::new());
        assert!(nix::unistd::geteuid().is_root(), "still who we were");
        fs::write(dir.path().join("x"), "").unwrap();
        assert!(nix::sys::prctl::get_dumpable().unwrap());
        Flock::lock(File::open(&path).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
    }
}
