//! When checkpoints are taken, on a real volume with the kernel's own events.

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent::signals::Signals;
use agent::wait::{Waiter, Wake};
use contract::damage::{CHECKPOINT, Checkpoint};
use daemon_init::checkpoint::Checkpoints;
use daemon_init::checkpoint::keeper::Keeper;
use daemon_init::seed::abort::Abort;
use daemon_init::seed::durability::{Disk, Durability};
use daemon_init::volume::{self, Open, Volume};

use crate::image::add_users_path;
use crate::losses::Scene;

const PATIENCE: Duration = Duration::from_secs(60);
const INTERVAL: Duration = Duration::from_millis(200);

/// The disk; it may refuse, and counts what it was asked for.
#[derive(Default)]
struct Counting {
    refuses: AtomicBool,
    /// Everything, and one by one.
    whole: AtomicU32,
    files: AtomicU32,
}

impl Counting {
    fn count(&self, times: &AtomicU32) -> io::Result<()> {
        times.fetch_add(1, Ordering::SeqCst);
        match self.refuses.load(Ordering::SeqCst) {
            true => Err(nix::errno::Errno::EIO.into()),
            false => Ok(()),
        }
    }
}

impl Durability for Counting {
    fn filesystem(&self, any: &File) -> io::Result<()> {
        self.count(&self.whole)?;
        Disk.filesystem(any)
    }

    fn file(&self, file: &File) -> io::Result<()> {
        self.count(&self.files)?;
        Disk.file(file)
    }
}

struct Kept<'a> {
    scene: Scene,
    _volume: Volume,
    disk: Arc<Counting>,
    keeper: Keeper,
    waiter: Waiter<'a>,
}

impl<'a> Kept<'a> {
    fn new(signals: &'a Signals) -> Self {
        let scene = Scene::new();
        let abort = Abort::new();
        let open = Open { root: &scene.root, image: &scene.image, adopt: false, abort: &abort };
        let volume = volume::open(&open).unwrap();
        let disk = Arc::new(Counting::default());
        let checkpoints = Checkpoints::with(&volume, "boot", Arc::clone(&disk) as _).unwrap();
        checkpoints.begin().unwrap();
        let (mut keeper, mut waiter) = (Keeper::new(checkpoints), Waiter::new(signals).unwrap());
        keeper.watch(&mut waiter).unwrap();
        Self { scene, _volume: volume, disk, keeper, waiter }
    }

    /// As the loop goes round, until nothing is to be done any more, or `done`.
    fn until(&mut self, busy: bool, done: impl Fn(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        self.keeper.look(&mut self.waiter, busy, INTERVAL).unwrap();
        while let Some(deadline) = self.keeper.deadline().filter(|_| !done(self)) {
            assert!(Instant::now() < end, "it never comes to rest");
            self.waiter.wait(Some(deadline)).unwrap();
            self.keeper.look(&mut self.waiter, busy, INTERVAL).unwrap();
        }
    }

    /// By something other than the end of a process of the test's.
    fn wakes(&mut self, within: Duration) -> Wake {
        let end = Some(Instant::now() + within);
        loop {
            match self.waiter.wait(end).unwrap() {
                Wake::Signals(_) => {}
                wake => return wake,
            }
        }
    }

    fn times(&self) -> u32 {
        self.disk.whole.load(Ordering::SeqCst) + self.disk.files.load(Ordering::SeqCst)
    }

    fn file(&self) -> PathBuf {
        self.scene.root.join("nix/.trampoline").join(CHECKPOINT)
    }

    fn last(&self) -> Checkpoint {
        serde_json::from_slice(&fs::read(self.file()).unwrap()).unwrap()
    }
}

#[test]
fn one_is_taken_after_something_has_appeared_and_an_idle_builder_sleeps() {
    let signals = Signals::install().unwrap();
    let mut kept = Kept::new(&signals);
    kept.until(false, |_| false);
    for (name, busy) in [("new", true), ("newer", false)] {
        let quiet = kept.times();
        let slept = (kept.wakes(2 * INTERVAL), kept.keeper.deadline());
        assert_eq!(slept, (Wake::Deadline, None), "nothing happens");
        add_users_path(&kept.scene.root, name);
        // Told by the kernel, not by a clock.
        assert_eq!(kept.wakes(PATIENCE), Wake::Changed);
        kept.until(busy, |_| false);
        assert!(kept.times() > quiet);
    }
    assert!(!kept.last().clean);
    let end = kept.last().at;
    let (file, keeper) = (kept.file(), kept.keeper);
    keeper.close(true);
    let last: Checkpoint = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(last.clean && last.at >= end);
}

#[test]
fn what_the_disk_refuses_is_vouched_for_by_nobody_and_tried_again() {
    let signals = Signals::install().unwrap();
    let mut kept = Kept::new(&signals);
    let before = fs::read(kept.file()).unwrap();
    kept.disk.refuses.store(true, Ordering::SeqCst);
    let tried = kept.times();
    kept.until(true, |kept| kept.times() > tried + 1);
    assert!(kept.times() > tried + 1, "it is tried again");
    assert_eq!(fs::read(kept.file()).unwrap(), before);
    kept.disk.refuses.store(false, Ordering::SeqCst);
    kept.until(true, |_| false);
    assert_ne!(fs::read(kept.file()).unwrap(), before);
}
