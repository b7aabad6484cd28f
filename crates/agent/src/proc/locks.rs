//! `flock`s, of which the kernel tells in a list alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of one read of a list: more than the kernel gives at once.
const PIECE: usize = 64 << 10;

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
    use std::fs;
    use std::os::unix::fs::MetadataExt;
    use std::sync::atomic::{AtomicBool, Ordering};

    use nix::fcntl::FlockArg;
    use nix::sched::{CpuSet, sched_setaffinity};
    use nix::unistd::Pid;

    use super::*;

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
}
