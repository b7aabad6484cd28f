//! Whether a piece of work ended for lack of memory: the kernel counts what it ends, and tells nobody.

use std::io;
use std::path::Path;
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

/// How things stood when the work began: of builds in the daemon container, and of what runs in our own.
#[derive(Debug, Clone)]
pub struct Before {
    paths: Paths,
    life: Life,
    builds: u64,
    own: u64,
    daemon: Option<(i32, u64)>,
}

impl Before {
    /// Now.
    ///
    /// # Errors
    /// When `/proc` cannot be read.
    pub fn now(paths: &Paths) -> io::Result<Self> {
        let life = &life::current(paths)?;
        Ok(Self {
            paths: paths.clone(),
            life: life.clone(),
            builds: builds(paths, life).map_or(0, |memory| memory.kills),
            own: cgroup::memory(cgroup::ROOT.as_ref()).map_or(0, |memory| memory.kills),
            daemon: daemon(paths, life),
        })
    }

    /// Why work that has failed did, as far as memory goes; none: not for that. `killed`: something was told to have been killed,
    /// so that the daemon's word is worth a moment.
    #[must_use]
    pub fn since(&self, container: Container, killed: bool) -> Option<String> {
        let own = look(cgroup::ROOT.as_ref(), &self.life);
        let own = own.and_then(|memory| memory.since(self.own, container));
        own.or_else(|| self.of_builds(if killed { DAEMONS_WORD } else { Duration::ZERO }))
    }

    fn of_builds(&self, patience: Duration) -> Option<String> {
        let (paths, life) = (&self.paths, &self.life);
        let deadline = Instant::now() + patience;
        let mut watch = DirWatch::new().ok()?;
        watch.add(&paths.run_dir(Container::Daemon)).ok()?;
        loop {
            if let Some(memory) = builds(paths, life)
                && let Some(note) = memory.since(self.builds, Container::Daemon)
            {
                return Some(note);
            }
            if self.daemon.is_some() && daemon(paths, life) != self.daemon {
                return Some(
                    "the daemon container ended while it ran, and with it all builds: `trampoline-cli logs daemon` says why. \
                     If that was for lack of memory: raise `memory` under [builder.daemon]"
                        .to_owned(),
                );
            }
            if !watch.wait(Some(deadline)).unwrap_or(false) && Instant::now() >= deadline {
                return None;
            }
        }
    }
}

fn builds(paths: &Paths, life: &Life) -> Option<Memory> {
    published::read(paths, life, Container::Daemon, file::MEMORY)
}

/// Which process of daemon-init serves.
fn daemon(paths: &Paths, life: &Life) -> Option<(i32, u64)> {
    ready::published(paths, life).map(|ready| (ready.pid, ready.start_time))
}
