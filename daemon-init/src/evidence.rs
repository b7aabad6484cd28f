//! What the daemon container sees of work: held build-user locks, and what else builds leave to be seen.

mod begun;
mod largest;
mod leftovers;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent::cgroup;
use agent::files;
use agent::out_of_memory::{self, Guard, Left};
use agent::paths::Paths;
use agent::proc;
use agent::status::chain;
use agent::wait::Waiter;
use contract::config::Size;
use contract::handshake::{DaemonActivity, Life, file};
use contract::places::Container;
use contract::resources::Memory;

use crate::build_dir;
use crate::build_dir::usage::Usage;

use begun::Begun;

/// Nix opens a lock file a moment before it locks it, and only the opening is told: look once more then.
const SETTLE: Duration = Duration::from_millis(300);

/// Looks when the kernel tells of lock files being opened or closed, and publishes what changed.
#[derive(Debug)]
pub struct Evidence {
    paths: Paths,
    pools: [PathBuf; 2],
    published: DaemonActivity,
    begun: Option<Begun>,
    again: Option<Instant>,
    held: BTreeSet<u64>,
    memory: Option<Memory>,
    guard: Option<Guard>,
    guarded_until: Option<Instant>,
    /// Builds that we have ended for lack of memory.
    ended: u64,
    usage: Option<Usage>,
}

impl Evidence {
    /// Makes Nix's lock folders where they are missing, so that they can be watched before the first build. `userpool2` is that of
    /// `auto-allocate-uids`. `build_size` is what was asked for of the volume in which builds work.
    ///
    /// # Errors
    /// When they can be neither made nor watched.
    pub fn watch(paths: &Paths, life: &Life, waiter: &mut Waiter<'_>, build_size: Size) -> io::Result<Self> {
        let state = paths.nix.join("var/nix");
        let pools = [state.join("userpool"), state.join("userpool2")];
        for pool in &pools {
            fs::DirBuilder::new().recursive(true).mode(0o755).create(pool)?;
            waiter.watch_dir_opens(pool)?;
        }
        let published = DaemonActivity { life: life.clone(), builds: 0, begun: 0, last_build: 0 };
        let run_dir = paths.run_dir(Container::Daemon);
        // A pod may have been made without such a volume.
        let begun = Begun::watch(&build_dir::of(&paths.build)).ok();
        let usage = paths.build.is_dir().then(|| Usage::new(&paths.build, &run_dir, life, build_size));
        let mut this = Self {
            paths: paths.clone(),
            pools,
            published,
            begun,
            again: None,
            held: BTreeSet::new(),
            memory: None,
            guard: Guard::new(cgroup::ROOT.as_ref()),
            guarded_until: None,
            ended: 0,
            usage,
        };
        this.look_at_memory();
        this.end_leftovers();
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
        let count = self.usage.as_ref().and_then(Usage::deadline);
        self.again.into_iter().chain(count).chain(self.guarded_until).min()
    }

    /// The second look, if its time has come; or a count of what builds take.
    pub fn settle(&mut self) {
        let builds = self.published.builds;
        self.usage.iter_mut().for_each(|usage| usage.look(builds));
        self.guard_memory();
        if self.again.is_some_and(|at| Instant::now() >= at) {
            self.again = None;
            self.look_now();
        }
    }

    fn look_now(&mut self) -> &DaemonActivity {
        match self.sample() {
            Ok(held) => {
                let builds = u32::try_from(held.len()).unwrap_or(u32::MAX);
                let begun = self.begun.as_mut().and_then(Begun::take);
                // One that has begun may be over by now, though nobody has seen its lock.
                if begun != Some(0) || !self.held.is_subset(&held) {
                    // Told before it is told that they have ended.
                    self.look_at_memory();
                    self.end_leftovers();
                }
                self.held = held;
                self.usage.iter_mut().for_each(|usage| usage.look(builds));
                let guarded = self.guard.is_some() && builds > 0;
                self.guarded_until = guarded.then(|| self.guarded_until.unwrap_or_else(Instant::now));
                let ended = self.published.builds > 0;
                let more = builds.saturating_sub(self.published.builds).into();
                let begun = begun.unwrap_or(more);
                let changed = builds != self.published.builds || begun > 0;
                self.published.begun += begun;
                if builds > 0 || ended || begun > 0 {
                    self.published.last_build = agent::unix_now();
                }
                self.published.builds = builds;
                // Not at each look while one runs: others look when we publish, and then we do.
                if changed {
                    self.publish();
                }
            }
            Err(error) => tracing::warn!(error = %error, "cannot look for builds"),
        }
        &self.published
    }

    /// Inodes of the locks that are held, one a build.
    fn sample(&self) -> io::Result<BTreeSet<u64>> {
        let held = proc::flocked_inodes(&self.paths.proc)?;
        let mut builds = BTreeSet::new();
        for pool in &self.pools {
            for entry in fs::read_dir(pool)? {
                let inode = entry?.metadata()?.ino();
                builds.extend(held.contains(&inode).then_some(inode));
            }
        }
        Ok(builds)
    }

    /// Has the kernel ended processes for lack of memory?
    fn look_at_memory(&mut self) {
        let Some(mut now) = out_of_memory::look(cgroup::ROOT.as_ref(), &self.published.life) else { return };
        now.kills += self.ended;
        if self.ended > 0 {
            now.last_kill = agent::unix_now();
        }
        let before = self.memory.as_ref().map(|memory| memory.kills);
        if before == Some(now.kills) {
            return;
        }
        if let Some(note) = before.and_then(|before| now.since(before, Container::Daemon)) {
            tracing::warn!("{note}");
        }
        let dir = self.paths.run_dir(Container::Daemon);
        if let Err(error) = files::write_json(&dir, file::MEMORY, &now) {
            tracing::warn!(error = %chain(&error), "use of memory not published");
        }
        self.memory = Some(now);
    }

    /// Ends the largest build before the kernel ends all of the container.
    fn guard_memory(&mut self) {
        let now = Instant::now();
        let (Some(guard), true) = (&self.guard, self.guarded_until.is_some_and(|at| now >= at)) else {
            return;
        };
        self.guarded_until = match guard.left() {
            Left::For(time) => Some(now + time),
            Left::Nothing => {
                let largest = largest::build_user(&self.paths.proc, &self.pools[0]);
                let ended = largest.and_then(|user| user.map(leftovers::end_all_of).transpose());
                match ended {
                    Ok(Some(())) => {
                        self.ended += 1;
                        self.look_at_memory();
                    }
                    Ok(None) => {}
                    Err(error) => tracing::warn!(error = %chain(&error), "the largest build is not ended"),
                }
                Some(now + SETTLE)
            }
        };
    }

    /// `userpool2` has a range of ids for each build, which Nix itself ends by their control group.
    fn end_leftovers(&self) {
        match leftovers::end(&self.paths.proc, &self.pools[0]) {
            Ok(users) if users.is_empty() => {}
            Ok(users) => tracing::warn!(?users, "ended processes that builds had left running"),
            Err(error) => tracing::warn!(error = %chain(&error), "what builds left running is not ended"),
        }
    }

    fn publish(&self) {
        let dir = self.paths.run_dir(Container::Daemon);
        if let Err(error) = files::write_json(&dir, file::ACTIVITY, &self.published) {
            tracing::warn!(error = %error, "activity not published");
        }
    }
}
