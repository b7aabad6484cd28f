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

use super::arrivals::Teller;
use super::fresh::Fresh;
use super::roots;
use crate::database::{self, Still};
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

/// Between two looks at who has the lock, of which the kernel does not tell.
const LOOK: Duration = Duration::from_millis(1);
/// A collection that is let in has it within so many, or somebody else keeps it waiting.
const LOOKS: u32 = 200;
/// So many in a row show nobody who has it or waits for it: it was a quick one.
const OVER: u32 = 5;

/// Between two looks, where the kernel tells of nothing.
const AGAIN: Duration = Duration::from_secs(1);

/// What came in since collections are let in, and how much of it whom was told.
#[derive(Debug, Default)]
struct Late {
    names: Vec<String>,
    holder: i32,
    told: usize,
    teller: Teller,
}

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
    if !is_seen(paths, inode) {
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

/// A list that is long comes in pieces, between which an entry can be lost.
fn is_seen(paths: &Paths, inode: u64) -> bool {
    (0..LOOKS).any(|_| proc::flocked_inodes(&paths.proc).is_ok_and(|held| held.contains(&inode)))
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
        while !self.collections()?.1 {
            let next = pauses.next().map(|pause| Instant::now() + *pause);
            if self.watch.wait(next)? {
                pauses = PAUSES.iter();
            }
        }
        Ok(())
    }

    /// Of all collections: which has the lock, by its process, and whether another one waits for it.
    fn collections(&self) -> io::Result<(Option<i32>, bool)> {
        let mut locks = proc::flocks(&self.paths.proc)?;
        locks.retain(|lock| lock.exclusive && lock.inode == self.inode);
        let holder = locks.iter().find(|lock| !lock.waits).map(|lock| lock.owner);
        Ok((holder, locks.iter().any(|lock| lock.waits)))
    }

    fn holder(&self) -> io::Result<Option<i32>> {
        Ok(self.collections()?.0)
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

    /// Returns when those that waited are over: the lock is ours again only after them, and each of them is told what came in until it had
    /// it. Where somebody else's lock keeps one waiting, it is looked at anew.
    fn let_in(&mut self, held: Flock<File>) -> io::Result<Flock<File>> {
        let still = self.fresh.spares().then(|| self.still()).flatten();
        self.fresh.more(&self.paths);
        let mut free = held.unlock().map_err(|(_, error)| error)?;
        let mut late = Late::default();
        self.await_begin(&mut late)?;
        self.tell(&mut late)?;
        drop(still);
        loop {
            free = match Flock::lock(free, FlockArg::LockSharedNonblock) {
                Ok(held) => {
                    self.shorten_log();
                    return Ok(held);
                }
                Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
                Err((_, error)) => return Err(error.into()),
            };
            self.tell(&mut late)?;
            self.shorten_log();
            self.watch.wait(Some(Instant::now() + AGAIN))?;
        }
    }

    /// A collection reads the temporary roots some time after it has the lock, and by then whoever brought something in before that may be
    /// gone. Nobody is, as long as nothing becomes valid.
    fn still(&self) -> Option<Still> {
        let still = Still::hold(&self.paths);
        still
            .inspect_err(|error| {
                let lost = "what comes in at this moment may be deleted by the collection that begins";
                tracing::warn!("{lost}: {}", chain(error));
            })
            .ok()
    }

    fn shorten_log(&self) {
        if let Err(error) = database::shorten_log(&self.paths) {
            tracing::warn!("the log of the store's database stays long: {}", chain(&error));
        }
    }

    /// Whoever lets go and takes again at once is faster than those who wait, who for a moment are not even seen to wait.
    fn await_begin(&mut self, late: &mut Late) -> io::Result<()> {
        let mut nobody = 0;
        for _ in 0..LOOKS {
            let (holder, waits) = self.collections()?;
            late.names.append(&mut self.fresh.more(&self.paths));
            nobody = if waits { 0 } else { nobody + 1 };
            if holder.is_some() || nobody == OVER {
                break;
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// Whoever brings something in once a collection has the lock tells it; whoever began before that is known now.
    fn tell(&mut self, late: &mut Late) -> io::Result<()> {
        let Some(holder) = self.holder()? else { return Ok(()) };
        late.names.append(&mut self.fresh.more(&self.paths));
        if late.holder != holder {
            (late.holder, late.told, late.teller) = (holder, 0, Teller::default());
        }
        let deadline = Instant::now() + PATIENCE;
        while self.holder()? == Some(holder) && Instant::now() < deadline {
            match late.teller.tell(&self.paths, &late.names[late.told..]) {
                // It does before it deletes anything.
                Ok(false) => thread::sleep(LOOK),
                Ok(true) => {
                    late.told = late.names.len();
                    break;
                }
                Err(error) => {
                    tracing::error!(%error, "a collection may delete what has just come in");
                    break;
                }
            }
        }
        Ok(())
    }
}
