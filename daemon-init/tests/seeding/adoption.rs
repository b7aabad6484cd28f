//! The store of the shell scripts, a copied `/nix` without our mark, is taken over.

use std::fs;

use contract::exit::Exit;
use daemon_init::seed::abort::Abort;
use daemon_init::seed::error::StoreError;
use daemon_init::volume::{self, Open};

use crate::image::{Scratch, add_users_path, nix_store_output};
use crate::mounts::{Memory, run};
use crate::store::{assert_whole, listing, start, start_with};

#[test]
fn nothing_changes_but_the_mark_and_then_the_image_is_merged() {
    let dir = Memory::new(256);
    let old = Scratch::make(&dir.path().join("old"), 1, 1 << 20);
    let new = Scratch::make(&dir.path().join("new"), 2, 1 << 20);
    let root = dir.path().join("volume");
    fs::create_dir(&root).unwrap();
    run("cp", &[&"-a", &old.root.join("nix"), &root]);
    let users = add_users_path(&root, "built");
    let (store, state) = (root.join("nix/store"), root.join("nix/var"));
    let before = (listing(&store), listing(&state));

    assert!(matches!(start(&root, &new.image()), Err(StoreError::Legacy { .. })));
    let (abort, image) = (Abort::new(), new.image());
    let open = Open { root: &root, image: &image, adopt: true, abort: &abort };
    let opened = volume::open(&open).unwrap();
    assert!(opened.mark().unwrap().adopted);
    assert!((listing(&store), listing(&state)) == before, "only the mark was written");
    drop(opened);

    // From now on it is ours, asked for or not.
    start(&root, &new.image()).unwrap();
    assert_whole(&root, &new.image());
    nix_store_output(&root, &["--check-validity", &users]);
    nix_store_output(&root, &["--check-validity", &old.image().manifest().paths[0]]);
}

#[test]
fn a_database_that_names_what_is_missing_is_refused() {
    let dir = Memory::new(256);
    let scratch = Scratch::make(&dir.path().join("image"), 1, 1 << 20);
    let root = dir.path().join("volume");
    fs::create_dir(&root).unwrap();
    run("cp", &[&"-a", &scratch.root.join("nix"), &root]);
    let image = scratch.image();
    let lost = &image.manifest().paths[3];
    let lost_at = root.join("nix/store").join(&lost["/nix/store/".len()..]);
    run("rm", &[&"-r", &lost_at]);
    let before = listing(&root);
    let error = start_with(&root, &image, true).unwrap_err();
    assert_eq!(error.exit(), Exit::NotOurs);
    assert!(error.to_string().contains(lost), "{error}");
    assert_eq!(listing(&root), before);
}
