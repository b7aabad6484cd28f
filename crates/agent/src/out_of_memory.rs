//! Whether a piece of work ended for lack of memory: the kernel counts what it ends, and tells nobody.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use contract::handshake::{Life, file};
use contract::places::Container;
use contract::resources::Memory;

use crate::paths::Paths;
use crate::watch::DirWatch;
use crate::{cgroup, life, published, ready, unix_now};

/// daemon-init looks when a build lets go of its lock, a moment before whoever waited for the build knows of its end.
const DAEMONS_WORD: Duration = Duration::from_millis(500);

/// What the kernel has done in the container whose group stands at `root`.
#[must_use]
pub fn look(root: &Path, life: &Life) -> Option<Memory> {
    let memory = cgroup::memory(root)?;
    let limit = cgroup::limits(root).memory;
    let last_kill = if memory.kills == 0 { 0 } else { unix_now() };
    Some(Memory { life: life.clone(), kills: memory.kills, limit, peak: memory.peak, last_kill })
}

/// Of the limit, in percent: above it something is ended before the kernel ends everything.
const FULL: u64 = 90;
/// No machine fills memory faster, in bytes a second.
const FASTEST: u64 = 2 << 30;
/// Between two looks, however full or empty it is.
const LOOKS: std::ops::RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(5);

/// For a container of which the kernel ends all processes at once (`memory.oom.group`: so a kubelet asks it to on cgroup v2). There is
/// no event to wait for: what grows fast is at the limit when the kernel first tells of it. So somebody looks while work runs.
#[derive(Debug)]
pub struct Guard {
    root: PathBuf,
    limit: u64,
}

/// How much is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// Too little: the largest piece of work is to be ended.
    Nothing,
    /// Enough for at least so long.
    For(Duration),
}

impl Guard {
    /// For the group at `root`; none where the kernel ends one process at a time, or nothing is limited.
    #[must_use]
    pub fn new(root: &Path) -> Option<Self> {
        let limit = cgroup::limits(root).memory?;
        cgroup::memory(root)?.all_at_once.then(|| Self { root: root.to_owned(), limit })
    }

    /// Now.
    #[must_use]
    pub fn left(&self) -> Left {
        let most = self.limit / 100 * FULL;
        let used = cgroup::memory(&self.root).map_or(0, |memory| memory.used);
        if used >= most {
            return Left::Nothing;
        }
        let filled_in = Duration::from_millis((most - used) / (FASTEST / 1000));
        Left::For(filled_in.clamp(*LOOKS.start(), *LOOKS.end()))
    }
}

/// Why work has failed, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// The kernel has ended something of it.
    Memory(String),
    /// It was not the work's own end.
    DaemonEnded(String),
}

/// How things stood when the work began: of builds in the daemon container, and of what runs in our own.
#[derive(Debug, Clone)]
pub struct Before {
    paths: Paths,
    life: Life,
    builds: u64,
    container: Container,
    own: u64,
    daemon: Option<(i32, u64)>,
}

impl Before {
    /// Now, in this container.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now(paths: &Paths, container: Container) -> io::Result<Self> {
        let life = &life::current(paths)?;
        Ok(Self {
            paths: paths.clone(),
            life: life.clone(),
            builds: builds(paths, life).map_or(0, |memory| memory.kills),
            container,
            own: own(paths, life, container).map_or(0, |memory| memory.kills),
            daemon: daemon(paths, life),
        })
    }

    /// Why work that has failed did, as far as memory and the daemon go; none: not for that. `killed`: something was told to have been
    /// killed, so that the daemon's word is worth a moment.
    #[must_use]
    pub fn since(&self, killed: bool) -> Option<Cause> {
        let own = own(&self.paths, &self.life, self.container);
        let own = own.and_then(|memory| memory.since(self.own, self.container)).map(Cause::Memory);
        own.or_else(|| self.of_builds(if killed { DAEMONS_WORD } else { Duration::ZERO }))
    }

    fn of_builds(&self, patience: Duration) -> Option<Cause> {
        let (paths, life) = (&self.paths, &self.life);
        let deadline = Instant::now() + patience;
        let mut watch = DirWatch::new().ok()?;
        watch.add(&paths.run_dir(Container::Daemon)).ok()?;
        loop {
            if let Some(memory) = builds(paths, life)
                && let Some(note) = memory.since(self.builds, Container::Daemon)
            {
                return Some(Cause::Memory(note));
            }
            if self.daemon.is_some() && daemon(paths, life) != self.daemon {
                return Some(Cause::DaemonEnded(
                    "the daemon container ended while it ran, and with it all builds: `trampoline-cli logs daemon` says why. \
                     If that was for lack of memory: raise `memory` under [builder.daemon]"
                        .to_owned(),
                ));
            }
            if !watch.wait(Some(deadline)).unwrap_or(false) && Instant::now() >= deadline {
                return None;
            }
        }
    }
}

/// What the kernel has ended of our container, and its agent before the kernel would.
fn own(paths: &Paths, life: &Life, container: Container) -> Option<Memory> {
    let memory = look(cgroup::ROOT.as_ref(), life)?;
    let ended: Option<Memory> = published::read(paths, life, container, file::MEMORY);
    Some(Memory { kills: memory.kills + ended.map_or(0, |ended| ended.kills), ..memory })
}

fn builds(paths: &Paths, life: &Life) -> Option<Memory> {
    published::read(paths, life, Container::Daemon, file::MEMORY)
}

/// Which process of daemon-init serves.
fn daemon(paths: &Paths, life: &Life) -> Option<(i32, u64)> {
    ready::published(paths, life).map(|ready| (ready.pid, ready.start_time))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn memory_is_guarded_where_the_kernel_would_end_everything() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("cgroup.controllers", "memory\n");
        write("memory.max", &format!("{}\n", 10u64 << 30));
        write("memory.events", "oom_kill 0\n");
        write("memory.oom.group", "0\n");
        let used = |anonymous: u64, cached: u64| {
            write("memory.current", &format!("{}\n", anonymous + cached));
            write("memory.stat", &format!("inactive_file {cached}\nactive_file 0\n"));
        };
        used(0, 0);
        assert!(Guard::new(dir.path()).is_none(), "the kernel ends one process");
        write("memory.oom.group", "1\n");
        let guard = Guard::new(dir.path()).unwrap();
        assert_eq!(guard.left(), Left::For(Duration::from_millis(4500)));
        used(1 << 30, 9 << 30);
        assert_eq!(guard.left(), Left::For(Duration::from_secs(4)), "what is cached can be had back");
        used(9_663_676_000, 0);
        assert_eq!(guard.left(), Left::For(Duration::from_millis(50)));
        used(10 << 30, 0);
        assert_eq!(guard.left(), Left::Nothing);
        write("memory.max", "max\n");
        assert!(Guard::new(dir.path()).is_none(), "nothing is limited");
    }
}
