//! What `/proc` tells.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use contract::in_use;

mod locks;

pub use locks::{Flock, flocked_inodes, flocks};

/// Us.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn ourselves(proc: &Path) -> io::Result<in_use::Process> {
    let pid = i32::try_from(std::process::id()).map_err(io::Error::other)?;
    Ok(in_use::Process { pid, start_time: start_time(proc, pid)?.ok_or(io::ErrorKind::NotFound)? })
}

/// Whether it is still there, and not another that has got its id.
#[must_use]
pub fn lives(proc: &Path, process: in_use::Process) -> bool {
    alive_since(proc, process.pid).is_ok_and(|start| start == Some(process.start_time))
}

/// Field 22 of `PROC/PID/stat`, in clock ticks since boot; `None` if there is no such process.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn start_time(proc: &Path, pid: i32) -> io::Result<Option<u64>> {
    Ok(stat(proc, pid)?.and_then(|stat| stat.start_time))
}

/// Start time of a process that has not ended. One that has is to be seen until somebody asks how, which takes an engine
/// some time on a busy machine.
///
/// # Errors
/// See [`start_time`].
pub fn alive_since(proc: &Path, pid: i32) -> io::Result<Option<u64>> {
    Ok(stat(proc, pid)?.filter(|stat| !matches!(stat.state, 'Z' | 'X')).and_then(|stat| stat.start_time))
}

/// `None` if there is no such process.
fn stat(proc: &Path, pid: i32) -> io::Result<Option<Stat>> {
    match fs::read_to_string(proc.join(pid.to_string()).join("stat")) {
        Ok(stat) => Ok(stat_fields(&stat)),
        // ESRCH: it ended between open and read.
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ESRCH) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// Some of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// One letter; `Z` for a zombie.
    pub state: char,
    /// Parent.
    pub ppid: i32,
    /// Ticks since boot.
    pub start_time: Option<u64>,
    /// Controlling terminal, as the kernel numbers devices; 0: none.
    pub tty: u32,
    /// Processor time of itself and of the children that it has waited for, in ticks.
    pub ticks: u64,
}

impl Stat {
    /// Number of its terminal below `/dev/pts`, if it is one of those.
    #[must_use]
    pub fn pts(&self) -> Option<u32> {
        /// Of all pseudo-terminals.
        const MAJOR: u32 = 136;
        let minor = self.tty & 0xff | (self.tty >> 12) & 0xfff00;
        ((self.tty >> 8) & 0xfff == MAJOR).then_some(minor)
    }
}

/// The command name (field 2) may hold spaces and parentheses: count from its last one.
fn stat_fields(stat: &str) -> Option<Stat> {
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let ppid = fields.next()?.parse().ok()?;
    let tty = fields.nth(2).and_then(|f| f.parse().ok()).unwrap_or_default();
    // Itself in both modes, then its children.
    let ticks = fields.by_ref().skip(6).take(4).filter_map(|f| f.parse::<u64>().ok()).sum();
    Some(Stat { state, ppid, tty, ticks, start_time: fields.nth(4).and_then(|f| f.parse().ok()) })
}

/// A process, its name as `ps` shows it, and its [`Stat`].
pub type Process = (i32, String, Stat);

/// All that belong to this user. Others are not looked into, as there may be hundreds of them.
///
/// # Errors
/// When `/proc` itself cannot be read; a process that ends meanwhile is left out.
pub fn processes_of(proc: &Path, uid: u32) -> io::Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        if !entry.metadata().is_ok_and(|meta| meta.uid() == uid) {
            continue;
        }
        let Ok(text) = fs::read_to_string(entry.path().join("stat")) else { continue };
        let name =
            text.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map_or("", |(name, _)| name);
        if let Some(stat) = stat_fields(&text) {
            found.push((pid, name.to_owned(), stat));
        }
    }
    Ok(found)
}

/// Pid, owner and [`Stat`] of every process that can be seen.
///
/// # Errors
/// When `/proc` itself cannot be read; a process that ends meanwhile is left out.
pub fn processes(proc: &Path) -> io::Result<Vec<(i32, u32, Stat)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(proc)?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<i32>().ok()) else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else { continue };
        if let Some(stat) = stat_fields(&stat) {
            found.push((pid, meta.uid(), stat));
        }
    }
    Ok(found)
}

/// Pages of memory that a process has; none: it has ended.
#[must_use]
pub fn resident(proc: &Path, pid: i32) -> Option<u64> {
    let statm = fs::read_to_string(proc.join(pid.to_string()).join("statm")).ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A field of a process's `status`, by its name there: `Uid`.
#[must_use]
pub fn status_field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Capabilities in force in a `status` file of `/proc`, a bit each by their numbers; none where it does not say.
#[must_use]
pub fn capabilities(status: &str) -> u64 {
    status_field(status, "CapEff").and_then(|held| u64::from_str_radix(held, 16).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_is_skipped() {
        let line = "42 (a) S b) (x) S 7 1 1 34817 -1 1 2 3 4 5 10 200 3000 40000 20 0 1 0 987654 1 1";
        let stat = Stat { state: 'S', ppid: 7, start_time: Some(987_654), tty: 34_817, ticks: 43_210 };
        assert_eq!(stat_fields(line), Some(stat));
        assert_eq!((stat.pts(), Stat { tty: 0, ..stat }.pts()), (Some(1), None));
        assert_eq!(Stat { tty: 136 << 8 | 1 << 20 | 2, ..stat }.pts(), Some(258));
    }

    #[test]
    fn who_waits_for_a_lock_of_ours_is_seen() {
        use nix::fcntl::{Flock, FlockArg};
        let file = tempfile::NamedTempFile::new().unwrap();
        let inode = file.as_file().metadata().unwrap().ino();
        let held = Flock::lock(file.reopen().unwrap(), FlockArg::LockShared).unwrap();
        let mut child =
            std::process::Command::new("flock").arg(file.path()).arg("true").spawn().expect("util-linux");
        let waits = || {
            let locks = flocks(Path::new("/proc")).unwrap();
            locks.iter().any(|lock| lock.waits && lock.exclusive && lock.inode == inode)
        };
        while !waits() {
            assert!(child.try_wait().unwrap().is_none(), "it must wait");
            std::thread::yield_now();
        }
        drop(held);
        assert!(child.wait().unwrap().success());
        assert!(!waits());
    }

    #[test]
    fn a_lock_of_ours_is_seen_and_its_end_too() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let inode = file.as_file().metadata().unwrap().ino();
        assert!(!flocked_inodes(Path::new("/proc")).unwrap().contains(&inode));
        let lock =
            nix::fcntl::Flock::lock(file.reopen().unwrap(), nix::fcntl::FlockArg::LockExclusiveNonblock)
                .unwrap();
        assert!(flocked_inodes(Path::new("/proc")).unwrap().contains(&inode));
        drop(lock);
        assert!(!flocked_inodes(Path::new("/proc")).unwrap().contains(&inode));
    }

    #[test]
    fn one_that_has_ended_is_not_alive() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let id = nix::sys::wait::Id::Pid(nix::unistd::Pid::from_raw(pid));
        let flags = nix::sys::wait::WaitPidFlag::WEXITED | nix::sys::wait::WaitPidFlag::WNOWAIT;
        nix::sys::wait::waitid(id, flags).unwrap();
        assert_eq!(alive_since(Path::new("/proc"), pid).unwrap(), None);
        assert!(start_time(Path::new("/proc"), pid).unwrap().is_some());
        child.wait().unwrap();
    }

    #[test]
    fn we_have_a_start_time() {
        let me = i32::try_from(std::process::id()).unwrap();
        assert!(start_time(Path::new("/proc"), me).unwrap().is_some());
        assert_eq!(start_time(Path::new("/proc"), i32::MAX).unwrap(), None);
        assert!(processes(Path::new("/proc")).unwrap().iter().any(|p| p.0 == me));
        let ours = processes_of(Path::new("/proc"), nix::unistd::geteuid().as_raw()).unwrap();
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        assert!(ours.iter().any(|(pid, called, _)| *pid == me && called == name.trim()));
    }
}
