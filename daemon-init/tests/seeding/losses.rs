//! What a start makes of a store of which a part was lost, damaged on purpose.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use contract::damage::Fate;
use daemon_init::checkpoint::{Before, Checkpoints};
use daemon_init::seed::abort::Abort;
use daemon_init::seed::error::StoreError;
use daemon_init::seed::verify::{self, Verified};
use daemon_init::seed::watch::{Observer, Unwatched, Watch};
use daemon_init::seed::{Image, delete_leftovers};
use daemon_init::volume::{self, Open, Volume};

use crate::image::{Scratch, add_users_path, nix_store_output};
use crate::mounts::Memory;
use crate::store::{assert_whole, faults, start};

const BYTES: usize = 3 << 20;
/// Later than anything that a test writes, whatever is allowed for clocks that were set.
pub(crate) const NOTHING_IS_NEW: i64 = i64::MAX;

/// A seeded volume.
pub(crate) struct Scene {
    pub(crate) dir: Memory,
    pub(crate) root: PathBuf,
    pub(crate) image: Image,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir = Memory::new(256);
        let image = Scratch::make(&dir.path().join("image"), 1, BYTES).image();
        let root = dir.path().join("volume");
        fs::create_dir_all(root.join("nix")).unwrap();
        start(&root, &image).unwrap();
        Self { dir, root, image }
    }

    fn since(&self, since: i64) -> Verified {
        self.verify(since, &[])
    }

    pub(crate) fn verify(&self, since: i64, named: &[String]) -> Verified {
        let (volume, verified) = self.found(since, named);
        delete_leftovers(&volume, &Abort::new()).unwrap();
        verified
    }

    /// The same; what was damaged lies aside.
    pub(crate) fn found(&self, since: i64, named: &[String]) -> (Volume, Verified) {
        let abort = Abort::new();
        let mut volume =
            volume::open(&Open { root: &self.root, image: &self.image, adopt: false, abort: &abort })
                .unwrap();
        let verified =
            verify::since(&mut volume, &self.image, since, named, &Watch::new(&Unwatched, &abort)).unwrap();
        (volume, verified)
    }

    /// Where a store path lies.
    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.root.join(path.strip_prefix('/').unwrap())
    }

    pub(crate) fn is_valid(&self, path: &str) -> bool {
        nix_store_output(&self.root, &["--dump-db"]).lines().any(|line| line == path)
    }

    /// A path that refers to `other`.
    pub(crate) fn add_referrer(&self, name: &str, other: &str) -> String {
        let expression =
            format!("derivation {{ name = {name:?}; system = \"x\"; builder = \"b\"; src = {other:?}; }}");
        // A derivation refers to its sources.
        let expression =
            expression.replace(&format!("{other:?}"), &format!("(builtins.storePath {other:?})"));
        let output = std::process::Command::new("nix-instantiate")
            .env_remove("NIX_REMOTE")
            .args(["--store", &format!("local?root={}", self.root.display()), "-E", &expression])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// Another byte in its middle; the size, and everything but the time of change, stays.
pub(crate) fn damage(file: &Path) {
    let mut bytes = fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    let mode = fs::metadata(file).unwrap().permissions();
    fs::set_permissions(file, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(file, bytes).unwrap();
    fs::set_permissions(file, mode).unwrap();
    made_at_one(file);
}

fn made_at_one(path: &Path) {
    let status = std::process::Command::new("touch").args(["-h", "-d", "@1"]).arg(path).status().unwrap();
    assert!(status.success());
}

#[test]
fn what_is_new_and_damaged_goes_with_what_refers_to_it() {
    let scene = Scene::new();
    let lost = add_users_path(&scene.root, "lost");
    let kept = add_users_path(&scene.root, "kept");
    let referrer = scene.add_referrer("referrer", &lost);
    fs::write(scene.place(&lost), "").unwrap();
    let verified = scene.since(0);
    let [one] = &verified.damaged[..] else { panic!("{:?}", verified.damaged) };
    assert_eq!((one.path.as_str(), one.fate), (lost.as_str(), Fate::Removed));
    assert!(!scene.place(&lost).exists() && !scene.place(&referrer).exists());
    assert!(!scene.is_valid(&lost) && !scene.is_valid(&referrer) && scene.is_valid(&kept));
    fs::remove_file(scene.root.join("nix/var/nix/gcroots/lost")).unwrap();
    assert_whole(&scene.root, &scene.image);
    assert!(scene.since(0).damaged.is_empty());
}

#[test]
fn what_a_checkpoint_vouches_for_is_not_read() {
    let scene = Scene::new();
    let old = add_users_path(&scene.root, "old");
    damage(&scene.place(&old));
    let verified = scene.since(NOTHING_IS_NEW);
    assert!(verified.damaged.is_empty() && verified.paths == 0, "{verified:?}");
    assert_ne!(faults(&scene.root), [""; 0], "it is damaged");
    assert_eq!(scene.since(0).damaged.len(), 1);
}

/// The collection's word that a path is no longer valid may be lost, and its deletions not.
#[test]
fn what_is_gone_or_half_deleted_is_found_however_old() {
    let scene = Scene::new();
    let gone = add_users_path(&scene.root, "gone");
    let dir = tempfile::tempdir().unwrap();
    let tree = dir.path().join("tree");
    fs::create_dir_all(tree.join("below")).unwrap();
    fs::write(tree.join("below/file"), "x").unwrap();
    let half = nix_store_output(&scene.root, &["--add", tree.to_str().unwrap()]).trim().to_owned();
    fs::remove_file(scene.place(&gone)).unwrap();
    let place = scene.place(&half);
    for folder in [&place, &place.join("below")] {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    fs::remove_file(place.join("below/file")).unwrap();
    made_at_one(&place);
    let mut damaged: Vec<_> = scene.since(NOTHING_IS_NEW).damaged.into_iter().map(|one| one.path).collect();
    damaged.sort();
    let mut expected = vec![gone.clone(), half.clone()];
    expected.sort();
    assert_eq!(damaged, expected);
    assert!(!scene.is_valid(&gone) && !scene.is_valid(&half) && !place.exists());
}

#[test]
fn the_images_own_paths_are_made_anew_and_nothing_else_goes() {
    let scene = Scene::new();
    let path = scene.image.manifest().paths.iter().find(|path| scene.place(path).is_dir()).unwrap().clone();
    let other = scene.image.manifest().paths.iter().rfind(|other| **other != path).unwrap().clone();
    let referrer = scene.add_referrer("referrer", &path);
    damage(&scene.place(&path).join("file-0"));
    std::process::Command::new("rm").arg("-rf").arg(scene.place(&other)).status().unwrap();
    let verified = scene.since(0);
    assert_eq!(verified.damaged.len(), 2);
    assert!(verified.damaged.iter().all(|one| one.fate == Fate::Restored), "{:?}", verified.damaged);
    assert!(scene.is_valid(&referrer));
    assert_whole(&scene.root, &scene.image);
}

/// Nix links identical files to each other: a file that was not on disk yet may have taken the place of one that was.
#[test]
fn a_damaged_file_is_found_in_all_paths_that_share_it() {
    let scene = Scene::new();
    let dir = tempfile::tempdir().unwrap();
    let add = |name: &str| {
        let tree = dir.path().join(name);
        fs::create_dir(&tree).unwrap();
        fs::write(tree.join("same"), "the same content").unwrap();
        fs::write(tree.join(name), name).unwrap();
        nix_store_output(&scene.root, &["--add", tree.to_str().unwrap()]).trim().to_owned()
    };
    let (old, new) = (add("old"), add("new"));
    nix_store_output(&scene.root, &["--optimise"]);
    let same = scene.place(&new).join("same");
    assert_eq!(
        fs::metadata(&same).unwrap().ino(),
        fs::metadata(scene.place(&old).join("same")).unwrap().ino()
    );
    // Only one of the two is new: the other's folder has not been touched since.
    damage(&same);
    let folder = scene.place(&new);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
    let verified = scene.since(NOTHING_IS_NEW);
    let mut damaged: Vec<_> = verified.damaged.iter().map(|one| one.path.clone()).collect();
    damaged.sort();
    let mut expected = vec![old, new];
    expected.sort();
    assert_eq!(damaged, expected);
    // The list of files to link to has forgotten it: the next one of that content is not linked to the damaged one.
    let again = add("again");
    nix_store_output(&scene.root, &["--optimise"]);
    assert_eq!(fs::read_to_string(scene.place(&again).join("same")).unwrap(), "the same content");
    assert_eq!(faults(&scene.root), [""; 0]);
}

#[test]
fn it_can_be_ended_and_done_again() {
    let scene = Scene::new();
    let lost = add_users_path(&scene.root, "lost");
    damage(&scene.place(&lost));
    let abort = Abort::new();
    let mut volume =
        volume::open(&Open { root: &scene.root, image: &scene.image, adopt: false, abort: &abort }).unwrap();
    struct End<'a>(&'a Abort);
    impl Observer for End<'_> {}
    let end = End(&abort);
    end.0.trigger();
    let ended = verify::since(&mut volume, &scene.image, 0, &[], &Watch::new(&end, &abort)).unwrap_err();
    assert!(matches!(ended, StoreError::Aborted), "{ended}");
    drop(volume);
    assert_eq!(scene.since(0).damaged.len(), 1);
}

#[test]
fn a_checkpoint_vouches_for_its_boot_or_for_a_clean_end() {
    let scene = Scene::new();
    let abort = Abort::new();
    let volume =
        volume::open(&Open { root: &scene.root, image: &scene.image, adopt: false, abort: &abort }).unwrap();
    let (one, two) = (Checkpoints::of(&volume, "one").unwrap(), Checkpoints::of(&volume, "two").unwrap());
    assert_eq!(one.before().unwrap(), Before::Unknown);
    one.begin().unwrap();
    assert_eq!(one.before().unwrap(), Before::Kept, "the machine has been up all the time");
    let Before::LostSince(begun) = two.before().unwrap() else { panic!("another kernel") };
    one.take(false).unwrap();
    let Before::LostSince(taken) = two.before().unwrap() else { panic!("another kernel") };
    assert!(begun <= taken);
    // A container that ends and starts again vouches for nothing more.
    let file = scene.root.join("nix/.trampoline/checkpoint.json");
    let before = fs::read(&file).unwrap();
    one.begin().unwrap();
    assert_eq!(fs::read(&file).unwrap(), before);
    one.take(true).unwrap();
    assert_eq!(two.before().unwrap(), Before::Kept, "it was left in order");
    two.begin().unwrap();
    assert!(matches!(one.before().unwrap(), Before::LostSince(_)));
    // On a full volume nothing new is vouched for, and one that starts again in the same boot verifies nothing.
    two.take(true).unwrap();
    let filler = scene.root.join("nix/filler");
    let mut full = fs::File::create(&filler).unwrap();
    while full.write_all(&[0; 4096]).is_ok() {}
    one.begin().unwrap();
    assert_eq!(one.before().unwrap(), Before::Kept);
    assert_eq!(two.before().unwrap(), Before::LostSince(0));
    drop(full);
    fs::remove_file(&filler).unwrap();
    one.take(false).unwrap();
    assert!(matches!(two.before().unwrap(), Before::LostSince(1..)));
    // Whatever cannot be read vouches for nothing.
    fs::write(&file, "{").unwrap();
    assert_eq!(two.before().unwrap(), Before::LostSince(0));
    fs::remove_file(&file).unwrap();
    symlink("nowhere", &file).unwrap();
    assert_eq!(fs::read(&file).unwrap_err().kind(), ErrorKind::NotFound);
}
