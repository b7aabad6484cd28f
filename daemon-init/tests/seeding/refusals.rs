//! Each volume that is refused, with its exit code, and that nothing on it was changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use contract::exit::Exit;
use contract::image::Mark;
use daemon_init::seed::error::StoreError;

use crate::image::Scratch;
use crate::mounts::{Memory, run};
use crate::store::{listing, start};

/// An image, and a volume that `prepare` has put something on; must be refused, and not touched.
fn refused(prepare: impl FnOnce(&Path)) -> StoreError {
    let dir = Memory::new(64);
    let image = Scratch::make(&dir.path().join("image"), 1, 1 << 16).image();
    let root = dir.path().join("volume");
    fs::create_dir_all(root.join("nix")).unwrap();
    prepare(&root);
    let before = listing(&root);
    let error = start(&root, &image).unwrap_err();
    assert_eq!(listing(&root), before);
    let text = error.to_string();
    assert!(text.contains(root.to_str().unwrap()), "it names the path: {text}");
    error
}

/// A volume of ours, changed afterwards.
fn ours(root: &Path, change: impl FnOnce(&mut Mark)) {
    let image = Scratch::make(&root.join("../first"), 1, 1 << 16).image();
    drop(start(root, &image).unwrap());
    let path = root.join("nix/.trampoline/mark.json");
    let mut mark = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut mark);
    fs::write(&path, serde_json::to_vec(&mark).unwrap()).unwrap();
}

#[test]
fn foreign_data() {
    let error = refused(|root| fs::write(root.join("nix/thesis.txt"), "").unwrap());
    assert_eq!(error.exit(), Exit::NotOurs);
    assert!(error.to_string().contains("thesis.txt"), "{error}");
    let error = refused(|root| fs::create_dir_all(root.join("nix/store")).unwrap());
    assert_eq!(error.exit(), Exit::NotOurs);
}

#[test]
fn links_in_the_place_of_ours() {
    for name in [".trampoline", "store", "var"] {
        let error = refused(|root| {
            fs::create_dir(root.join("elsewhere")).unwrap();
            symlink(root.join("elsewhere"), root.join("nix").join(name)).unwrap();
        });
        assert_eq!(error.exit(), Exit::NotOurs, "{name}");
    }
    let error = refused(|root| {
        ours(root, |_| {});
        fs::rename(root.join("nix/store"), root.join("store")).unwrap();
        symlink("../store", root.join("nix/store")).unwrap();
    });
    assert_eq!(error.exit(), Exit::NotOurs);
}

#[test]
fn a_mark_folder_of_somebody_elses() {
    let error = refused(|root| {
        let dir = root.join("nix/.trampoline");
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(1000), None).unwrap();
    });
    assert_eq!(error.exit(), Exit::NotOurs);
}

#[test]
fn a_mark_that_says_nothing() {
    let error = refused(|root| {
        fs::create_dir(root.join("nix/.trampoline")).unwrap();
        fs::write(root.join("nix/.trampoline/mark.json"), "{\"format\": ").unwrap();
    });
    assert_eq!(error.exit(), Exit::NotOurs);
}

#[test]
fn a_store_of_a_newer_nix() {
    let error = refused(|root| ours(root, |mark| mark.nix_version = "99.1.0".into()));
    assert_eq!(error.exit(), Exit::StoreNewer);
    assert!(error.to_string().contains("99.1.0"), "{error}");
}

#[test]
fn a_database_of_a_newer_schema() {
    let error = refused(|root| {
        ours(root, |_| {});
        fs::write(root.join("nix/var/nix/db/schema"), "11").unwrap();
    });
    assert_eq!(error.exit(), Exit::StoreNewer);
}

#[test]
fn a_mark_of_a_later_release() {
    let error = refused(|root| ours(root, |mark| mark.format = 2));
    assert_eq!(error.exit(), Exit::StoreNewer);
}

#[test]
fn a_store_without_our_mark() {
    let error = refused(|root| {
        ours(root, |_| {});
        fs::remove_dir_all(root.join("nix/.trampoline")).unwrap();
    });
    assert!(matches!(error, StoreError::Legacy { .. }), "{error}");
    assert_eq!(error.exit(), Exit::NotOurs);
    assert!(error.to_string().contains("--adopt-store"), "{error}");
}

#[test]
fn a_volume_that_is_read_only() {
    let (dir, volume) = (Memory::new(64), Memory::new(64));
    let image = Scratch::make(&dir.path().join("image"), 1, 1 << 16).image();
    fs::create_dir(volume.path().join("nix")).unwrap();
    run("mount", &[&"-o", &"remount,ro", &volume.path()]);
    let error = start(volume.path(), &image).unwrap_err();
    assert_eq!(error.exit(), Exit::ReadOnly);
}

#[test]
fn a_volume_in_use() {
    let dir = Memory::new(64);
    let image = Scratch::make(&dir.path().join("image"), 1, 1 << 16).image();
    let root = dir.path().join("volume");
    fs::create_dir_all(root.join("nix")).unwrap();
    let first = start(&root, &image).unwrap();
    let before = listing(&root);
    let error = start(&root, &image).unwrap_err();
    assert_eq!(error.exit(), Exit::InUse);
    assert_eq!(listing(&root), before);
    drop(first);
    start(&root, &image).unwrap();
}
