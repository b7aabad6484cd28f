//! Power cuts: the volume is a file on btrfs, and a reflink copy of it is what the disk held at that moment. The copy is
//! mounted as the next start's volume.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use daemon_init::seed::abort::Abort;
use daemon_init::seed::durability::{Disk, Durability};
use daemon_init::seed::watch::{Unwatched, Watch};
use daemon_init::seed::{self, Image};
use daemon_init::volume::{self, Open};

use crate::image::Scratch;
use crate::mounts::{Memory, Mount, run};
use crate::random::Random;
use crate::store::{OPTIONS, faults, missing_from_whole, start};

const BYTES: usize = 20 << 20;

#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Ext4,
    Btrfs,
}

/// A file system that can copy a file at once, and in it the volume's disk.
pub(crate) struct Bench {
    dir: Memory,
    host: Mount,
    pub(crate) images: [Scratch; 2],
}

impl Bench {
    pub(crate) fn new() -> Self {
        let dir = Memory::new(4096);
        let file = dir.path().join("host.btrfs");
        File::create(&file).unwrap().set_len(3 << 30).unwrap();
        run("mkfs.btrfs", &[&"-q", &file]);
        let host = Mount::image(&dir.path().join("host"), &file, "noatime");
        let image = |version| Scratch::make(&dir.path().join(format!("image-{version}")), version, BYTES);
        let images = [image(1), image(2)];
        Self { dir, host, images }
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.dir.path().join("host").join(name)
    }

    pub(crate) fn make_disk(&self, kind: Kind) -> PathBuf {
        let disk = self.disk("disk");
        let _ = fs::remove_file(&disk);
        File::create(&disk).unwrap().set_len(256 << 20).unwrap();
        match kind {
            Kind::Ext4 => run("mkfs.ext4", &[&"-q", &"-F", &disk]),
            Kind::Btrfs => run("mkfs.btrfs", &[&"-q", &disk]),
        }
        disk
    }

    /// Mounts a disk as the volume below the root that is given back.
    pub(crate) fn mount(&self, disk: &Path) -> (Mount, PathBuf) {
        self.mount_as("volume", disk)
    }

    /// The same beside another one.
    pub(crate) fn mount_as(&self, name: &str, disk: &Path) -> (Mount, PathBuf) {
        let root = self.dir.path().join(name);
        (Mount::image(&root.join("nix"), disk, "noatime"), root)
    }

    pub(crate) fn cut(&self, disk: &Path, name: &str) -> PathBuf {
        let cut = self.disk(name);
        run("cp", &[&"--reflink=always", &disk, &cut]);
        cut
    }

    /// What is wrong on a disk after the power came back: at first sight, and after a start.
    fn faults_after(&self, cut: &Path, image: &Image) -> Vec<String> {
        let (_mount, root) = self.mount(cut);
        let mut wrong = Vec::new();
        if root.join("nix/var/nix/db/db.sqlite").exists() {
            wrong = faults(&root);
        }
        match start(&root, image) {
            Ok(_) => wrong.extend(missing_from_whole(&root, image)),
            Err(error) => wrong.push(error.to_string()),
        }
        wrong
    }
}

#[test]
fn whatever_the_disk_held_becomes_a_whole_store() {
    let bench = Bench::new();
    let mut random = Random::new(3);
    let (mut cuts_seen, mut span) = (0, Duration::from_millis(700));
    for kind in [Kind::Ext4, Kind::Btrfs] {
        // First an empty volume, then a newer image on it.
        let disk = bench.make_disk(kind);
        for scratch in &bench.images {
            let image = scratch.image();
            let (mount, root) = bench.mount(&disk);
            let moments: Vec<Duration> = (0..5).map(|_| random.within(span)).collect();
            let forced: Vec<bool> = (0..5).map(|_| random.below(2) == 0).collect();
            let begun = Instant::now();
            let (done, is_done) = mpsc::channel();
            let mut cuts = Vec::new();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let seeded = seed_with(&root, &image, &Disk);
                    let _ = done.send(begun.elapsed());
                    seeded.unwrap();
                });
                let mut sorted = moments;
                sorted.sort();
                for (n, moment) in sorted.into_iter().enumerate() {
                    // Ends early if seeding does: that moment is worth a cut as well.
                    if let Ok(taken) = is_done.recv_timeout(moment.saturating_sub(begun.elapsed())) {
                        span = taken;
                    }
                    if forced[n] {
                        commit(&root);
                    }
                    cuts.push(bench.cut(&disk, &format!("cut-{n}")));
                }
            });
            // btrfs knows a file system by its id: the copies can be mounted once the original is not.
            drop(mount);
            for cut in cuts {
                let wrong = bench.faults_after(&cut, &image);
                assert_eq!(wrong, [""; 0], "{kind:?} {}", cut.display());
                fs::remove_file(cut).unwrap();
                cuts_seen += 1;
            }
        }
    }
    eprintln!("{cuts_seen} power cuts");
    drop(bench.host);
}

/// The same check notices when seeding does without `syncfs`, and without anything.
#[test]
fn without_barriers_the_check_fails() {
    let bench = Bench::new();
    let image = bench.images[0].image();
    for (kind, durability) in
        [(Kind::Ext4, &NoBarrier as &dyn Durability), (Kind::Btrfs, &NoBarrier), (Kind::Ext4, &Nothing)]
    {
        // btrfs may log the other's file alone, so that the disk holds a volume that was never seeded, or commit all there is just
        // before: then nothing is wrong.
        let noticed = (0..10).any(|_| {
            let disk = bench.make_disk(kind);
            let (mount, root) = bench.mount(&disk);
            seed_with(&root, &image, durability).unwrap();
            commit(&root);
            let cut = bench.cut(&disk, "cut");
            drop(mount);
            let seeded = {
                let (_mount, root) = bench.mount(&cut);
                root.join("nix/.trampoline/mark.json").exists()
            };
            let wrong = seeded && !bench.faults_after(&cut, &image).is_empty();
            fs::remove_file(cut).unwrap();
            wrong
        });
        assert!(noticed, "{kind:?}");
    }
}

fn seed_with(root: &Path, image: &Image, durability: &dyn Durability) -> Result<(), seed::error::StoreError> {
    let abort = Abort::new();
    let mut volume = volume::open(&Open { root, image, adopt: false, abort: &abort })?;
    let watch = Watch { durability, ..Watch::new(&Unwatched, &abort) };
    seed::run(&mut volume, image, OPTIONS, &watch).map(drop)
}

/// Somebody else's `fsync`, which commits the journal, and with it names whose bytes may not be there yet.
pub(crate) fn commit(root: &Path) {
    let other = root.join("nix/lost+found");
    fs::create_dir_all(&other).unwrap();
    let file = File::create(other.join("other")).unwrap();
    file.sync_all().unwrap();
}

/// Files are made durable one by one, as asked; the file system as a whole is not.
struct NoBarrier;

impl Durability for NoBarrier {
    fn filesystem(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn file(&self, file: &File) -> io::Result<()> {
        Disk.file(file)
    }
}

struct Nothing;

impl Durability for Nothing {
    fn filesystem(&self, _: &File) -> io::Result<()> {
        Ok(())
    }

    fn file(&self, _: &File) -> io::Result<()> {
        Ok(())
    }
}
