//! What the daemon container sees of work: held build-user locks.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::files;
use agent::paths::Paths;
use agent::proc;
use agent::wait::Waiter;
use contract::handshake::{DaemonActivity, Life, file};
use contract::places::Container;

/// Nix opens a lock file a moment before it locks it, and only the opening is told: look once more then.
const SETTLE: Duration = Duration::from_millis(300);

/// Looks when the kernel tells of lock files being opened or closed, and publishes what changed.
#[derive(Debug)]
pub struct Evidence {
    paths: Paths,
    pools: [PathBuf; 2],
    published: DaemonActivity,
    again: Option<Instant>,
}

impl Evidence {
    /// Makes Nix's lock folders where they are missing, so that they can be watched before the first build. `userpool2` is that of
    /// `auto-allocate-uids`.
    ///
    /// # Errors
    /// When they can be neither made nor watched.
    pub fn watch(paths: &Paths, life: &Life, waiter: &mut Waiter<'_>) -> io::Result<Self> {
        let state = paths.nix.join("var/nix");
        let pools = [state.join("userpool"), state.join("userpool2")];
        for pool in &pools {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(pool)?;
            waiter.watch_dir_opens(pool)?;
        }
        let published = DaemonActivity { life: life.clone(), builds: 0, last_build: 0 };
        let this = Self { paths: paths.clone(), pools, published, again: None };
        this.publish();
        Ok(this)
    }

    /// Something may have changed. Returns what is now.
    pub fn look(&mut self) -> &DaemonActivity {
        self.again = Some(Instant::now() + SETTLE);
        self.look_now()
    }

    /// As seen last.
    #[must_use]
    pub fn builds(&self) -> u32 {
        self.published.builds
    }

    /// When [`Self::settle`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// The second look, if its time has come.
    pub fn settle(&mut self) {
        if self.again.is_some_and(|at| Instant::now() >= at) {
            self.again = None;
            self.look_now();
        }
    }

    fn look_now(&mut self) -> &DaemonActivity {
        match self.sample() {
            Ok(builds) => {
                let ended = self.published.builds > 0;
                let changed = builds != self.published.builds;
                if builds > 0 || ended {
                    self.published.last_build = agent::unix_now();
                }
                self.published.builds = builds;
                if changed || ended {
                    self.publish();
                }
            }
            Err(error) => tracing::warn!(error = %error, "cannot look for builds"),
        }
        &self.published
    }

    fn sample(&self) -> io::Result<u32> {
        let held = proc::flocked_inodes(&self.paths.proc)?;
        let mut builds = 0;
        for pool in &self.pools {
            for entry in fs::read_dir(pool)? {
                let inode = entry?.metadata()?.ino();
                builds += u32::from(held.contains(&inode));
            }
        }
        Ok(builds)
    }

    fn publish(&self) {
        let dir = self.paths.run_dir(Container::Daemon);
        if let Err(error) = files::write_json(&dir, file::ACTIVITY, &self.published) {
            tracing::warn!(error = %error, "activity not published");
        }
    }
}
