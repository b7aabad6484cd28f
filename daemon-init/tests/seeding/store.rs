//! Questions to a seeded store.

use std::path::Path;

use daemon_init::seed::abort::Abort;
use daemon_init::seed::error::StoreError;
use daemon_init::seed::watch::{Unwatched, Watch};
use daemon_init::seed::{self, Image, Options, Seeded};
use daemon_init::volume::{self, Open, Volume};

use crate::image::{nix_store, nix_store_output};

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
    assert_eq!(faults(root), [""; 0]);
    let valid = nix_store_output(root, &["--dump-db"]);
    let valid: Vec<&str> = valid.lines().filter(|l| l.starts_with("/nix/store/")).collect();
    for path in &image.manifest().paths {
        assert!(valid.contains(&path.as_str()), "{path} is not valid");
    }
    // Not by `--gc --print-dead`: that reads the maps of every process of the machine.
    let roots = root.join("nix/var/nix/gcroots/trampoline").join(&image.manifest().id);
    for path in &image.manifest().paths {
        let link = std::fs::read_link(roots.join(&path["/nix/store/".len()..])).unwrap();
        assert_eq!(link, Path::new(path), "no root");
    }
    let env = std::fs::read_link(root.join("nix/var/nix/profiles/default")).unwrap();
    let env = std::fs::read_link(root.join("nix/var/nix/profiles").join(env)).unwrap();
    assert!(image.manifest().paths.iter().any(|p| Path::new(p) == env), "{}", env.display());
    let mut ours: Vec<_> = std::fs::read_dir(root.join("nix/.trampoline"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    ours.sort();
    assert_eq!(ours, ["lock", "mark.json"]);
    assert_eq!(std::fs::read_dir(root.join("nix/var/nix/gcroots/trampoline")).unwrap().count(), 1);
}
