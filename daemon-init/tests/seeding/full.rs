//! Volumes without room: refused with numbers, helped by leftovers and a collection, and never broken by it.

use std::fs;
use std::path::{Path, PathBuf};

use contract::exit::Exit;
use daemon_init::seed;
use daemon_init::seed::abort::Abort;
use daemon_init::seed::error::StoreError;
use daemon_init::seed::watch::{Observer, Step, Watch};
use daemon_init::volume::{self, Open};

use crate::image::{Scratch, nix_store_output};
use crate::mounts::Memory;
use crate::store::{OPTIONS, assert_whole, names, start};

const MIB: usize = 1 << 20;

/// A volume root in a file system of its own.
fn volume(options: &str) -> Memory {
    let volume = Memory::with(options);
    fs::create_dir(volume.path().join("nix")).unwrap();
    volume
}

#[test]
fn too_few_bytes_or_inodes() {
    let dir = Memory::new(128);
    let image = Scratch::make(&dir.path().join("image"), 1, 10 * MIB).image();
    for (options, bytes, inodes) in [("size=20m", true, false), ("size=99m,nr_inodes=200", false, true)] {
        let volume = volume(options);
        let error = start(volume.path(), &image).unwrap_err();
        assert_eq!(error.exit(), Exit::NoRoom);
        let StoreError::NoRoom { short, needed, .. } = error else { panic!("{error}") };
        assert_eq!((short.bytes > 0, short.inodes > 0), (bytes, inodes), "{short}");
        assert!(needed.bytes > 10 << 20 && needed.inodes > 300, "{needed}");
        assert_eq!(names(&volume.path().join("nix")), [".trampoline"]);
        assert_eq!(names(&volume.path().join("nix/.trampoline")), ["lock"]);
    }
}

#[test]
fn leftovers_make_room() {
    let dir = Memory::new(128);
    let image = Scratch::make(&dir.path().join("image"), 1, 10 * MIB).image();
    let volume = volume("size=40m");
    for folder in ["staging/a", "leftovers/0-staging/b"] {
        let folder = volume.path().join("nix/.trampoline").join(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("half"), vec![1; 10 * MIB]).unwrap();
    }
    start(volume.path(), &image).unwrap();
    assert_whole(volume.path(), &image);
}

#[test]
fn a_full_store_is_collected_for_a_new_image() {
    let dir = Memory::new(256);
    let old = Scratch::make(&dir.path().join("old"), 1, 8 * MIB).image();
    let new = Scratch::make(&dir.path().join("new"), 2, 8 * MIB).image();
    let volume = volume("size=72m");
    start(volume.path(), &old).unwrap();
    let garbage = dir.path().join("garbage");
    fs::write(&garbage, vec![1; 40 * MIB]).unwrap();
    let garbage = nix_store_output(volume.path(), &["--add", garbage.to_str().unwrap()]);
    let (opened, seeded) = start(volume.path(), &new).unwrap();
    assert!(seeded.collected);
    drop(opened);
    assert_whole(volume.path(), &new);
    assert!(!nix_store_output(volume.path(), &["--dump-db"]).contains(garbage.trim()));
}

#[test]
fn a_volume_that_runs_full_meanwhile_is_whole_after_the_next_start() {
    let dir = Memory::new(128);
    let image = Scratch::make(&dir.path().join("image"), 1, 10 * MIB).image();
    for step in [Step::Begun, Step::Durable, Step::Placed] {
        let volume = volume("size=64m");
        // Somebody else fills the disk after the look at its room.
        let hog = Hog { step, file: volume.path().join("hog") };
        let error = start_watched(volume.path(), &image, &hog);
        if let Err(error) = &error {
            assert_eq!(error.exit(), Exit::NoRoom, "{step:?}: {error}");
        }
        assert!(error.is_err() || step == Step::Placed, "{step:?}");
        fs::remove_file(&hog.file).unwrap();
        start(volume.path(), &image).unwrap();
        assert_whole(volume.path(), &image);
    }
}

fn start_watched(root: &Path, image: &seed::Image, observer: &dyn Observer) -> Result<(), StoreError> {
    let abort = Abort::new();
    let mut volume = volume::open(&Open { root, image, adopt: false, abort: &abort })?;
    seed::run(&mut volume, image, OPTIONS, &Watch::new(observer, &abort)).map(drop)
}

struct Hog {
    step: Step,
    file: PathBuf,
}

impl Observer for Hog {
    fn step(&self, step: Step) {
        if step == self.step {
            // As much as fits.
            let _ = fs::write(&self.file, vec![1; 64 * MIB]);
        }
    }
}

#[test]
fn an_abort_between_two_files_leaves_nothing_half_done() {
    let dir = Memory::new(128);
    let image = Scratch::make(&dir.path().join("image"), 1, 10 * MIB).image();
    let volume = volume("size=64m");
    let abort = Abort::new();
    struct Stop<'a>(&'a Abort);
    impl Observer for Stop<'_> {
        fn progress(&self, _: u64, _: u64) {
            self.0.trigger();
        }
    }
    let mut opened =
        volume::open(&Open { root: volume.path(), image: &image, adopt: false, abort: &abort }).unwrap();
    let error = seed::run(&mut opened, &image, OPTIONS, &Watch::new(&Stop(&abort), &abort)).unwrap_err();
    assert!(matches!(error, StoreError::Aborted), "{error}");
    drop(opened);
    start(volume.path(), &image).unwrap();
    assert_whole(volume.path(), &image);
}
