//! What `/proc` tells.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use contract::in_use;

/// Bytes of one read of a list: more than the kernel gives at once.
const PIECE: usize = 64 << 10;

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

/// Inodes under a held `flock`, from `/proc/locks`. Taking a build user's lock to test it would make Nix skip that user.
/// Device numbers there differ from `stat` on btrfs, so that only inodes are compared.
///
/// # Errors
/// When the file cannot be read.
pub fn flocked_inodes(proc: &Path) -> io::Result<Vec<u64>> {
    Ok(flocks(proc)?.into_iter().filter(|lock| !lock.waits).map(|lock| lock.inode).collect())
}

/// One `flock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flock {
    /// Wanted, and not yet had.
    pub waits: bool,
    /// Shared with nobody.
    pub exclusive: bool,
    /// The process that took it, by its id in our namespace.
    pub owner: i32,
    /// On which file.
    pub inode: u64,
}

/// All that are held or waited for, as far as processes that can be seen do it.
///
/// # Errors
/// When `/proc/locks` cannot be read.
pub fn flocks(proc: &Path) -> io::Result<Vec<Flock>> {
    let (mut text, whole) = listed(&proc.join("locks"))?;
    if !whole {
        text.push_str(&listed(&proc.join("locks"))?.0);
    }
    Ok(text.lines().filter_map(flock).collect())
}

/// A list of the kernel's, and whether it came in one piece. Each read begins at a number of entries that it skips (`seq_file`), so what goes
/// in between hides another that is still there; what one read gives, a page at most, is as it was at one moment.
fn listed(path: &Path) -> io::Result<(String, bool)> {
    let mut file = File::open(path)?;
    let (mut bytes, mut pieces) = (Vec::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok((String::from_utf8_lossy(&bytes).into_owned(), pieces < 2)),
            Ok(n) => bytes.extend_from_slice(&piece[..n]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        pieces += 1;
    }
}

/// `1: FLOCK  ADVISORY  WRITE 1234 00:2f:5678 0 EOF`; a waiter has `->` as its second word.
fn flock(line: &str) -> Option<Flock> {
    let mut words = line.split_ascii_whitespace().skip(1).peekable();
    let waits = words.next_if(|word| *word == "->").is_some();
    if words.next()? != "FLOCK" {
        return None;
    }
    let exclusive = words.nth(1)? == "WRITE";
    let owner = words.next()?.parse().ok()?;
    let inode = words.next()?.rsplit(':').next()?.parse().ok()?;
    Some(Flock { waits, exclusive, owner, inode })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::fcntl::FlockArg;
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

    #[test]
    fn a_name_with_parentheses_is_skipped() {
        let line = "42 (a) S b) (x) S 7 1 1 34817 -1 1 2 3 4 5 10 200 3000 40000 20 0 1 0 987654 1 1";
        let stat = Stat { state: 'S', ppid: 7, start_time: Some(987_654), tty: 34_817, ticks: 43_210 };
        assert_eq!(stat_fields(line), Some(stat));
        assert_eq!((stat.pts(), Stat { tty: 0, ..stat }.pts()), (Some(1), None));
        assert_eq!(Stat { tty: 136 << 8 | 1 << 20 | 2, ..stat }.pts(), Some(258));
    }

    /// What hides a lock is one in front of it that goes between two reads: so others come and go on the CPU to whose list ours belongs.
    #[test]
    fn a_lock_that_is_held_is_seen_whatever_others_do() {
        let on_the_first_cpu = || {
            let mut first = CpuSet::new();
            first.set(0).unwrap();
            // Where we may not, there is nothing to see and nothing to fear.
            let _ = sched_setaffinity(Pid::from_raw(0), &first);
        };
        let dir = tempfile::tempdir().unwrap();
        let lock = |name: &str| {
            let file = File::create(dir.path().join(name)).unwrap();
            nix::fcntl::Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).unwrap()
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let held = scope.spawn(|| {
                on_the_first_cpu();
                lock("ours")
            });
            let held = held.join().unwrap();
            let inode = held.metadata().unwrap().ino();
            for name in ["one", "another"] {
                scope.spawn(|| {
                    on_the_first_cpu();
                    while !over.load(Ordering::Relaxed) {
                        drop(lock(name));
                    }
                });
            }
            let seen = || flocked_inodes(Path::new("/proc")).unwrap().contains(&inode);
            let missed = (0..10_000).filter(|_| !seen()).count();
            over.store(true, Ordering::Relaxed);
            assert_eq!(missed, 0);
        });
    }

    #[test]
    fn only_held_flocks_count() {
        let text = "1: FLOCK  ADVISORY  WRITE 12 fe:00:111 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 13 fe:00:222 0 EOF\n\
                    2: POSIX  ADVISORY  WRITE 14 fe:00:333 0 EOF\n";
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("locks"), text).unwrap();
        assert_eq!(flocked_inodes(dir.path()).unwrap(), [111]);
        let waits = Flock { waits: true, exclusive: true, owner: 13, inode: 222 };
        assert_eq!(flocks(dir.path()).unwrap()[1], waits);
        fs::write(dir.path().join("locks"), text.replace("WRITE", "READ ")).unwrap();
        assert_eq!(flocks(dir.path()).unwrap()[1], Flock { exclusive: false, ..waits });
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
