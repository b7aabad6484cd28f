//! Questions to a seeded store.

use std::collections::HashSet;
use std::path::Path;

use daemon_init::seed::abort::Abort;
use daemon_init::seed::error::StoreError;
use daemon_init::seed::watch::{Unwatched, Watch};
use daemon_init::seed::{self, Image, Options, Seeded};
use daemon_init::volume::{self, Open, Volume};

use crate::image::nix_store;

pub(crate) const OPTIONS: Options = Options { threads: 4, may_collect: true };

/// A whole start as far as the store goes.
pub(crate) fn start(root: &Path, image: &Image) -> Result<(Volume, Seeded), StoreError> {
    start_with(root, image, false)
}

pub(crate) fn start_with(root: &Path, image: &Image, adopt: bool) -> Result<(Volume, Seeded), StoreError> {
    let abort = Abort::new();
    let mut volume = volume::open(&Open { root, image, adopt, abort: &abort })?;
    let seeded = seed::run(&mut volume, image, OPTIONS, &Watch::new(&Unwatched, &abort))?;
    seed::delete_leftovers(&volume, &abort)?;
    Ok((volume, seeded))
}

/// What `--verify --check-contents` has to say, beyond what it says of a store in order.
pub(crate) fn faults(root: &Path) -> Vec<String> {
    let output = nix_store(root, &["--verify", "--check-contents"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let usual = [
        "reading the Nix store...",
        "checking path existence...",
        "checking link hashes...",
        "checking hashes...",
        "checking store hashes...",
    ];
    let mut faults: Vec<String> =
        text.lines().filter(|line| !usual.contains(line)).map(String::from).collect();
    if !output.status.success() && faults.is_empty() {
        faults.push(output.status.to_string());
    }
    faults
}

/// All is well: contents, the image's paths valid and rooted, its profile current, and nothing of ours lying about.
pub(crate) fn assert_whole(root: &Path, image: &Image) {
    assert_eq!(missing_from_whole(root, image), [""; 0]);
}

/// What is not as [`assert_whole`] wants it.
pub(crate) fn missing_from_whole(root: &Path, image: &Image) -> Vec<String> {
    let mut wrong = faults(root);
    let valid = nix_store(root, &["--dump-db"]).output().unwrap();
    let valid = String::from_utf8(valid.stdout).unwrap();
    let valid: HashSet<&str> = valid.lines().filter(|l| l.starts_with("/nix/store/")).collect();
    // Not by `--gc --print-dead`: that reads the maps of every process of the machine.
    let roots = root.join("nix/var/nix/gcroots/trampoline").join(&image.manifest().id);
    for path in &image.manifest().paths {
        let link = std::fs::read_link(roots.join(&path["/nix/store/".len()..])).ok();
        if !valid.contains(path.as_str()) || link.as_deref() != Some(Path::new(path)) {
            wrong.push(format!("{path} is not valid and rooted"));
        }
    }
    let profiles = root.join("nix/var/nix/profiles");
    let env = std::fs::read_link(profiles.join("default")).and_then(|n| std::fs::read_link(profiles.join(n)));
    if !env.as_ref().is_ok_and(|env| image.manifest().paths.iter().any(|p| Path::new(p) == env)) {
        wrong.push(format!("the profile leads to {env:?}"));
    }
    if names(&root.join("nix/.trampoline")) != ["lock", "mark.json"] {
        wrong.push("something is left over".into());
    }
    if names(&root.join("nix/var/nix/gcroots/trampoline")) != [image.manifest().id.as_str()] {
        wrong.push("another image has roots".into());
    }
    wrong
}

/// Sorted names in a folder; none if it is absent.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Everything that can be seen of a tree without reading files, times of change included.
pub(crate) fn listing(folder: &Path) -> String {
    let output = std::process::Command::new("find")
        .arg(folder)
        .args(["-printf", "%P %y %i %m %U %G %T@ %C@ %l %s\\n"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}
