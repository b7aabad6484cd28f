//! Power cuts under a builder at work: a real nix-daemon builds and adds on a file system of its own, checkpoints are taken, and at
//! any moment a copy of the disk becomes what the next start finds.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use daemon_init::checkpoint::{Before, Checkpoints};
use daemon_init::seed::Image;
use daemon_init::seed::abort::Abort;
use daemon_init::seed::durability::{Disk, Durability};
use daemon_init::seed::verify;
use daemon_init::seed::watch::{Unwatched, Watch};
use daemon_init::volume::{self, Open};

use crate::daemon::Daemon;
use crate::image::nix_store_output;
use crate::power_cuts::{Bench, Kind, commit};
use crate::random::Random;
use crate::store::{faults, start};

/// What a disk of the bench has room for.
const CUTS_A_DISK: u32 = 15;

/// Valid paths, with their registration.
fn valid(root: &Path) -> HashSet<String> {
    let dump = nix_store_output(root, &["--dump-db"]);
    dump.lines().filter(|line| line.starts_with("/nix/store/")).map(String::from).collect()
}

/// Somebody's `fsync` of Nix's journal, or Nix's own when it has grown: what was registered is on disk, its files perhaps not.
fn keep_registrations(root: &Path) {
    if let Ok(journal) = File::open(root.join("nix/var/nix/db/db.sqlite-wal")) {
        journal.sync_all().unwrap();
    }
}

/// The start after a power cut; says how many paths were damaged.
fn recover(bench: &Bench, cut: &Path, image: &Image, vouched: &HashSet<String>) -> usize {
    let (_mount, root) = bench.mount_as("after", cut);
    let damaged = {
        let abort = Abort::new();
        let mut volume = volume::open(&Open { root: &root, image, adopt: false, abort: &abort }).unwrap();
        let checkpoints = Checkpoints::of(&volume, "after").unwrap();
        let Before::LostSince(since) = checkpoints.before().unwrap() else {
            panic!("the machine went down, and the store was not left in order")
        };
        let watch = Watch::new(&Unwatched, &abort);
        verify::since(&mut volume, image, since, &[], &watch).unwrap().damaged.len()
    };
    assert_eq!(faults(&root), [""; 0], "{}", cut.display());
    let kept = valid(&root);
    let lost: Vec<&String> = vouched.iter().filter(|path| !kept.contains(*path)).collect();
    assert!(lost.is_empty(), "a checkpoint vouched for {lost:?}");
    damaged
}

#[test]
fn a_builder_at_work_survives_power_cuts() {
    let cuts = std::env::var("TRAMPOLINE_POWER_CUTS").map_or(6, |cuts| cuts.parse().unwrap());
    let bench = Bench::new();
    let image = bench.images[0].image();
    let mut random = Random::new(7);
    let (mut left, mut damaged, mut taken) = (cuts, 0, 0_u32);
    while left > 0 {
        let disk = bench.make_disk(Kind::Ext4);
        let (_mount, root) = bench.mount(&disk);
        let (volume, _) = start(&root, &image).unwrap();
        let checkpoints = Checkpoints::of(&volume, "before").unwrap();
        checkpoints.begin().unwrap();
        let daemon = Daemon::start(&root, "");
        let (stop, count) = (AtomicBool::new(false), AtomicU32::new(0));
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            let (failed, failure) = mpsc::channel::<()>();
            for work in [Daemon::add, Daemon::build] {
                let (failed, daemon, stop, count) = (failed.clone(), &daemon, &stop, &count);
                scope.spawn(move || {
                    // Dropped by a panic as well.
                    let _failed = failed;
                    while !stop.load(Ordering::Relaxed) {
                        work(daemon, count.fetch_add(1, Ordering::Relaxed));
                    }
                });
            }
            drop(failed);
            let mut vouched = HashSet::new();
            for _ in 0..CUTS_A_DISK.min(left) {
                let pause = random.within(Duration::from_millis(1500));
                let ended = failure.recv_timeout(pause);
                assert_eq!(ended, Err(mpsc::RecvTimeoutError::Timeout), "nobody works any more");
                if random.below(3) == 0 {
                    let valid = valid(&root);
                    checkpoints.take(false).unwrap();
                    (vouched, taken) = (valid, taken + 1);
                }
                match random.below(3) {
                    0 => keep_registrations(&root),
                    1 => commit(&root),
                    _ => {}
                }
                let cut = bench.cut(&disk, "cut");
                damaged += recover(&bench, &cut, &image, &vouched);
                fs::remove_file(cut).unwrap();
                left -= 1;
            }
        });
    }
    eprintln!(
        "{cuts} power cuts under a builder at work, {taken} checkpoints, {damaged} damaged paths found"
    );
}

/// The workers end with the one who counts, however that ends.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Without the start's verification the store would hold what is damaged, and say that it is valid.
#[test]
fn without_verification_a_power_cut_leaves_damage() {
    let bench = Bench::new();
    let image = bench.images[0].image();
    let disk = bench.make_disk(Kind::Ext4);
    let (_mount, root) = bench.mount(&disk);
    let (volume, _) = start(&root, &image).unwrap();
    Checkpoints::of(&volume, "before").unwrap().begin().unwrap();
    let daemon = Daemon::start(&root, "");
    let cut: PathBuf = {
        daemon.add(0);
        daemon.build(1);
        keep_registrations(&root);
        bench.cut(&disk, "cut")
    };
    {
        let (_mount, root) = bench.mount_as("after", &cut);
        assert_ne!(faults(&root), [""; 0], "else the test above shows nothing");
    }
    assert_ne!(recover(&bench, &cut, &image, &HashSet::new()), 0);
}

/// The file system as a whole once, and then files alone, or nothing.
struct Alone {
    whole: AtomicBool,
    files: bool,
}

impl Durability for Alone {
    fn filesystem(&self, any: &File) -> io::Result<()> {
        assert!(self.whole.swap(false, Ordering::SeqCst), "what is new is little");
        Disk.filesystem(any)
    }

    fn file(&self, file: &File) -> io::Result<()> {
        if self.files { Disk.file(file) } else { Ok(()) }
    }
}

/// A power cut right after a checkpoint of little; says how many paths were damaged.
fn cut_after_little(bench: &Bench, kind: Kind, files: bool) -> usize {
    let image = bench.images[0].image();
    let disk = bench.make_disk(kind);
    let (mount, root) = bench.mount(&disk);
    let (volume, _) = start(&root, &image).unwrap();
    // Whoever opens it first makes the folder of links.
    drop(valid(&root));
    // What is about as old as the last checkpoint counts as new.
    std::thread::sleep(Duration::from_secs(4));
    let alone = Alone { whole: AtomicBool::new(true), files };
    let checkpoints = Checkpoints::with(&volume, "before", Arc::new(alone)).unwrap();
    checkpoints.begin().unwrap();
    checkpoints.take(false).unwrap();
    let daemon = Daemon::start(&root, "");
    daemon.add(0);
    daemon.build(1);
    let valid = valid(&root);
    checkpoints.take(false).unwrap();
    if !files {
        keep_registrations(&root);
        commit(&root);
    }
    let cut = bench.cut(&disk, "cut");
    drop((daemon, checkpoints, volume));
    // btrfs knows a file system by its id: the copy can be mounted once the original is not.
    drop(mount);
    let vouched = if files { valid } else { HashSet::new() };
    recover(bench, &cut, &image, &vouched)
}

#[test]
fn few_files_are_made_durable_one_by_one() {
    let bench = Bench::new();
    for kind in [Kind::Ext4, Kind::Btrfs] {
        assert_eq!(cut_after_little(&bench, kind, true), 0, "{kind:?}");
    }
    assert_ne!(cut_after_little(&bench, Kind::Ext4, false), 0, "else this shows nothing");
}
