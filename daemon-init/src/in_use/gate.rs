//! Every collection waits at this gate until what is in use has been looked at, whoever starts it: Nix's own lock, which a
//! collection takes for itself and builds share. We share it too, let go when somebody waits for it and the roots are those of that
//! moment, and take it again when the collection is over.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use agent::in_use::{PATIENCE, ask};
use agent::paths::Paths;
use agent::proc;
use agent::status::chain;
use agent::watch::DirWatch;
use contract::handshake::Life;
use contract::places::Container;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::fresh::Fresh;
use super::roots;
use crate::reserve;
use crate::roots::named;
use crate::seed::error::{Context, StoreError};
use crate::volume::lock;

/// Nix opens the lock's file a moment before it waits for the lock, and only the opening is told. Long after an opening, on a machine that
/// stood still in between, the next one is told.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(2),
    Duration::from_millis(20),
    Duration::from_millis(200),
    Duration::from_secs(2),
    Duration::from_secs(20),
];

/// What the thread works on.
struct Gate {
    paths: Paths,
    life: Life,
    file: PathBuf,
    inode: u64,
    watch: DirWatch,
    fresh: Fresh,
}

/// Closes it, for as long as this process lives.
///
/// # Errors
/// When Nix's lock cannot be taken, as while something collects.
pub fn close(paths: &Paths, life: &Life) -> Result<(), StoreError> {
    let state = paths.nix.join("var/nix");
    let file = state.join("gc.lock");
    let opened = lock::open(&file).context("open", &file)?;
    let inode = opened.metadata().context("look at", &file)?.ino();
    let mut watch = DirWatch::new().context("watch", &state)?;
    watch.add_opens(&state).context("watch", &state)?;
    let held = Flock::lock(opened, FlockArg::LockSharedNonblock)
        .map_err(|(_, error)| StoreError::io("lock", &file, error.into()))?;
    // Where locks are not to be seen, as on NFS, nobody would ever be let in.
    if !proc::flocked_inodes(&paths.proc).is_ok_and(|held| held.contains(&inode)) {
        tracing::warn!(
            "locks of the store volume are not in /proc/locks: a collection that a user starts may delete what other containers run"
        );
        return Ok(());
    }
    let fresh = Fresh::new(paths)?;
    let gate = Gate { paths: paths.clone(), life: life.clone(), file: file.clone(), inode, watch, fresh };
    thread::Builder::new()
        .name("gate".into())
        .spawn(move || gate.keep(held))
        .context("start a thread for", &file)?;
    Ok(())
}

impl Gate {
    /// For ever. Where the kernel fails us the lock goes with this thread: collections then see what was in use before.
    fn keep(mut self, held: Flock<File>) {
        let Err(error) = self.rounds(held);
        tracing::error!(%error, lock = %self.file.display(), "collections no longer wait for a look at what is in use");
    }

    fn rounds(&mut self, mut held: Flock<File>) -> io::Result<std::convert::Infallible> {
        loop {
            self.await_collection()?;
            // Roots and Nix's own lists need files.
            self.keep_reserve();
            if let Err(error) = named::expire(&self.paths, agent::unix_now()) {
                tracing::error!("named roots that have expired are not taken away: {}", chain(&error));
            }
            self.look();
            // Last, as it goes on all the time.
            self.fresh.look(&self.paths, &self.life);
            held = self.let_in(held)?;
            self.keep_reserve();
        }
    }

    fn await_collection(&mut self) -> io::Result<()> {
        let mut pauses = PAUSES.iter();
        while !self.is_taken(true)? {
            let next = pauses.next().map(|pause| Instant::now() + *pause);
            if self.watch.wait(next)? {
                pauses = PAUSES.iter();
            }
        }
        Ok(())
    }

    /// Whether a collection has the lock, or waits for it.
    fn is_taken(&self, waits: bool) -> io::Result<bool> {
        let locks = proc::flocks(&self.paths.proc)?;
        Ok(locks.iter().any(|lock| lock.exclusive && lock.waits == waits && lock.inode == self.inode))
    }

    fn keep_reserve(&self) {
        if let Err(error) = reserve::keep(&self.paths.mark_dir()) {
            tracing::warn!(%error, "no files are kept for a volume that has none left");
        }
    }

    fn look(&self) {
        let seen = match ask(&self.paths, &self.life, Container::Daemon, PATIENCE) {
            Ok(Some(seen)) => seen,
            // The roots stay as they were.
            Ok(None) => return,
            Err(error) => {
                return tracing::warn!("a collection goes by what was in use before: {}", chain(&error));
            }
        };
        match roots::keep(&self.paths, &seen.names) {
            Ok(()) => {
                tracing::debug!(paths = seen.names.len(), "a collection begins, and spares what is in use")
            }
            Err(error) => tracing::error!("a collection may delete what is in use: {}", chain(&error)),
        }
    }

    /// Returns when the collection is over. Not before it has begun: whoever lets go and takes again at once is faster than those who
    /// wait, who for a moment are not even seen to wait. Where somebody else's lock keeps it waiting, it is looked at anew.
    fn let_in(&mut self, held: Flock<File>) -> io::Result<Flock<File>> {
        self.watch.drain();
        let mut free = held.unlock().map_err(|(_, error)| error)?;
        for pause in PAUSES {
            // What came in meanwhile: a collection reads temporary roots when it has found all others, and who brings something in from
            // here on tells it.
            self.fresh.more(&self.paths);
            // What is told is the end of one that was quick, or that another begins.
            if self.is_taken(false)? || self.watch.wait(Some(Instant::now() + pause))? {
                break;
            }
        }
        loop {
            match Flock::lock(free, FlockArg::LockShared) {
                Ok(held) => return Ok(held),
                Err((file, Errno::EINTR)) => free = file,
                Err((_, error)) => return Err(error.into()),
            }
        }
    }
}
