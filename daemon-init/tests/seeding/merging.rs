//! First seeding, a restart, a newer image over an older store.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::image::{Scratch, add_users_path, nix_store_output};
use crate::mounts::Memory;
use crate::store::{assert_whole, start};

const MIB: usize = 1 << 20;

#[test]
fn an_empty_volume_becomes_the_images_store() {
    let dir = Memory::new(256);
    let scratch = Scratch::make(&dir.path().join("image"), 1, 2 * MIB);
    let volume = dir.path().join("volume");
    fs::create_dir_all(volume.join("nix/lost+found")).unwrap();
    let image = scratch.image();
    let (opened, seeded) = start(&volume, &image).unwrap();
    assert_eq!(seeded.paths, image.manifest().paths.len());
    let id = opened.mark().unwrap().store_id.clone();
    drop(opened);
    assert_whole(&volume, &image);
    assert_same_tree(&scratch.root.join("nix/store"), &volume.join("nix/store"));
    assert_eq!(fs::metadata(volume.join("nix/.trampoline")).unwrap().mode() & 0o7777, 0o700);
    assert_eq!(fs::metadata(volume.join("nix/store")).unwrap().mode() & 0o7777, 0o1775);

    let (opened, seeded) = start(&volume, &image).unwrap();
    assert_eq!(seeded.paths, 0);
    assert_eq!(opened.mark().unwrap().store_id, id);
}

#[test]
fn a_newer_image_is_merged_and_what_users_built_stays() {
    let dir = Memory::new(256);
    let old = Scratch::make(&dir.path().join("old"), 1, 2 * MIB);
    let new = Scratch::make(&dir.path().join("new"), 2, 2 * MIB);
    let volume = dir.path().join("volume");
    fs::create_dir_all(volume.join("nix")).unwrap();
    start(&volume, &old.image()).unwrap();
    let users = add_users_path(&volume, "built");

    let (_, seeded) = start(&volume, &new.image()).unwrap();
    assert_eq!(seeded.paths, 11, "a third of the paths, and the profile's");
    assert_whole(&volume, &new.image());
    nix_store_output(&volume, &["--gc"]);
    assert_whole(&volume, &new.image());
    nix_store_output(&volume, &["--check-validity", &users]);
    let valid = nix_store_output(&volume, &["--dump-db"]);
    let gone = old.image().manifest().paths.iter().filter(|p| !valid.contains(p.as_str())).count();
    assert_eq!(gone, 11, "the old image's own paths have no root left");

    // And back again.
    let (_, seeded) = start(&volume, &old.image()).unwrap();
    assert_eq!(seeded.paths, 11);
    assert_whole(&volume, &old.image());
    nix_store_output(&volume, &["--check-validity", &users]);
}

#[test]
fn a_changed_database_of_the_image_is_not_copied() {
    let dir = Memory::new(256);
    let scratch = Scratch::make(&dir.path().join("image"), 1, MIB);
    // Somebody has run Nix in the container before the volume covered /nix.
    let later = dir.path().join("later");
    fs::write(&later, "later").unwrap();
    let later = nix_store_output(&scratch.root, &["--add", later.to_str().unwrap()]);
    let volume = dir.path().join("volume");
    fs::create_dir_all(volume.join("nix")).unwrap();
    start(&volume, &scratch.image()).unwrap();
    assert_whole(&volume, &scratch.image());
    assert!(!nix_store_output(&volume, &["--dump-db"]).contains(later.trim()));
}

/// Names, types, modes, owners, times, contents.
pub(crate) fn assert_same_tree(a: &Path, b: &Path) {
    let list = |dir: &Path| {
        let output = std::process::Command::new("find")
            .current_dir(dir)
            .args([".", "-mindepth", "1", "-not", "-path", "./.links*"])
            .args(["-printf", "%p %y %m %U %G %T@ %l %s\\n"])
            .output()
            .unwrap();
        let mut lines: Vec<String> =
            String::from_utf8(output.stdout).unwrap().lines().map(String::from).collect();
        lines.sort();
        lines
    };
    let strip = |lines: Vec<String>| -> Vec<String> {
        // The size of a folder is the file system's own affair.
        lines
            .into_iter()
            .map(|l| if l.contains(" d ") { l.rsplit_once(' ').unwrap().0.to_owned() } else { l })
            .collect()
    };
    assert_eq!(strip(list(a)), strip(list(b)));
    let status = std::process::Command::new("diff")
        .args(["-r", "--no-dereference", "-x", ".links"])
        .args([a, b])
        .status()
        .unwrap();
    assert!(status.success());
}
