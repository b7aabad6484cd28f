//! Seeding by root that has no power over files but by owning them, as in the init container of a pod in a user namespace.

use std::fs;
use std::path::Path;

use caps::{CapSet, Capability};
use contract::damage::Fate;
use daemon_init::seed::abort::Abort;
use daemon_init::seed::watch::{Unwatched, Watch};
use daemon_init::seed::{self, Image};
use daemon_init::volume::{self, Open};

use crate::image::{Scratch, add_users_path};
use crate::losses::{Scene, damage};
use crate::merging::assert_same_tree;
use crate::mounts::Memory;
use crate::store::{OPTIONS, assert_whole};

const POWERS: [Capability; 4] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_FOWNER,
];

/// In a thread of its own: those that it starts have as little power.
fn powerless<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            for power in POWERS {
                caps::drop(None, CapSet::Effective, power).unwrap();
            }
            work()
        });
        worker.join().unwrap()
    })
}

fn seeded(root: &Path, image: &Image) {
    let abort = Abort::new();
    let volume = powerless(|| {
        let mut volume = volume::open(&Open { root, image, adopt: false, abort: &abort }).unwrap();
        seed::run(&mut volume, image, OPTIONS, &Watch::new(&Unwatched, &abort)).unwrap();
        volume
    });
    // The container that serves does this.
    seed::delete_leftovers(&volume, &abort).unwrap();
}

#[test]
fn root_over_its_own_files_alone_is_enough() {
    let dir = Memory::new(256);
    let old = Scratch::make(&dir.path().join("old"), 1, 2 << 20);
    let new = Scratch::make(&dir.path().join("new"), 2, 2 << 20);
    let root = dir.path().join("volume");
    fs::create_dir_all(root.join("nix")).unwrap();
    seeded(&root, &old.image());
    assert_whole(&root, &old.image());
    assert_same_tree(&old.root.join("nix/store"), &root.join("nix/store"));

    // Over what another start has left half done, and beside what users built.
    add_users_path(&root, "built");
    let image = new.image();
    let mut in_the_way = image.manifest().paths.iter().map(|path| root.join(path.trim_start_matches('/')));
    let in_the_way = in_the_way.find(|path| !path.exists()).unwrap();
    fs::create_dir_all(in_the_way.join("half")).unwrap();
    for folder in [in_the_way.join("half"), in_the_way] {
        let mut mode = fs::metadata(&folder).unwrap().permissions();
        mode.set_readonly(true);
        fs::set_permissions(&folder, mode).unwrap();
    }
    seeded(&root, &image);
    assert_whole(&root, &image);
}

#[test]
fn root_over_its_own_files_mends_them() {
    let scene = Scene::new();
    damage(&scene.place(&add_users_path(&scene.root, "lost")));
    let mut of_image = scene.image.manifest().paths.iter().map(|path| scene.place(path));
    damage(&of_image.find(|path| path.is_dir()).unwrap().join("file-0"));
    let verified = powerless(|| scene.found(0, &[]).1);
    let mut fates: Vec<Fate> = verified.damaged.iter().map(|one| one.fate).collect();
    fates.sort_by_key(|fate| *fate == Fate::Removed);
    assert_eq!(fates, [Fate::Restored, Fate::Removed]);
}
