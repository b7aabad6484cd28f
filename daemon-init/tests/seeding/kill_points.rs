//! SIGKILL at random moments, and right after each step; the next start must end in a whole store.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use daemon_init::seed::watch::Step;

use crate::child::{End, seed_in_child};
use crate::image::{Scratch, add_users_path, nix_store_output};
use crate::mounts::{Memory, run};
use crate::random::Random;
use crate::store::{assert_whole, faults, start};

/// Some 350 files.
const BYTES: usize = 20 << 20;
/// Of a whole run, as a first guess.
const SPAN: Duration = Duration::from_millis(100);
const STEPS: [Step; 10] = [
    Step::Cleared,
    Step::Planned,
    Step::Begun,
    Step::Copied,
    Step::Durable,
    Step::Placed,
    Step::Registered,
    Step::Rooted,
    Step::Settled,
    Step::Marked,
];

#[test]
fn a_kill_after_each_step() {
    let dir = Memory::new(1024);
    let (old, new) = images(dir.path(), BYTES / 10);
    for step in STEPS {
        let volume = Volume::fresh(dir.path(), "steps");
        for image in [&old, &new] {
            let status = seed_in_child(&volume.root, image, End::At(step));
            assert_eq!(status.signal(), Some(9), "{step:?}");
            volume.check_valid_is_whole();
            start(&volume.root, &image.image()).unwrap();
            assert_whole(&volume.root, &image.image());
        }
    }
}

#[test]
fn kills_at_random_moments() {
    let count: u32 = std::env::var("TRAMPOLINE_KILL_POINTS").map_or(300, |n| n.parse().unwrap());
    let dir = Memory::new(2048);
    let (old, new) = images(dir.path(), BYTES);
    let (killed, rounds) = (AtomicU32::new(0), AtomicU32::new(0));
    // Two at a time, each with a volume of its own.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut random, mut span) = (Random::new(1), SPAN);
            while killed.load(Ordering::Relaxed) < count {
                let volume = Volume::fresh(dir.path(), "fresh");
                killed.fetch_add(kill_and_start(&volume, &old, &mut random, &mut span), Ordering::Relaxed);
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
        scope.spawn(|| {
            // One volume that lives through all of it, from image to image.
            let (mut random, mut span) = (Random::new(2), SPAN);
            let volume = Volume::fresh(dir.path(), "merged");
            start(&volume.root, &old.image()).unwrap();
            let users = add_users_path(&volume.root, "built");
            let mut images = [&new, &old].into_iter().cycle();
            while killed.load(Ordering::Relaxed) < count {
                let Some(image) = images.next() else { break };
                killed.fetch_add(kill_and_start(&volume, image, &mut random, &mut span), Ordering::Relaxed);
                rounds.fetch_add(1, Ordering::Relaxed);
                nix_store_output(&volume.root, &["--check-validity", &users]);
                volume.forget_other_images(&old, &new, image);
            }
        });
    });
    eprintln!("{} kills in {} rounds", killed.into_inner(), rounds.into_inner());
}

fn images(dir: &Path, bytes: usize) -> (Scratch, Scratch) {
    (Scratch::make(&dir.join("old"), 1, bytes), Scratch::make(&dir.join("new"), 2, bytes))
}

/// One round: kills, the start that is left alone, the check. Gives the number of kills that hit.
fn kill_and_start(volume: &Volume, image: &Scratch, random: &mut Random, span: &mut Duration) -> u32 {
    let mut hits = 0;
    for _ in 0..1 + random.below(4) / 3 {
        let status = seed_in_child(&volume.root, image, End::After(random.within(*span)));
        if status.signal() == Some(9) {
            hits += 1;
        }
        if random.below(4) == 0 {
            volume.check_valid_is_whole();
        }
    }
    let begun = Instant::now();
    assert!(seed_in_child(&volume.root, image, End::Whole).success());
    if hits > 0 {
        // What a whole run takes, so that the kills fall into it.
        *span = (*span * 3 + begun.elapsed()) / 4;
    }
    assert_whole(&volume.root, &image.image());
    hits
}

struct Volume {
    root: PathBuf,
}

impl Volume {
    fn fresh(dir: &Path, name: &str) -> Self {
        let root = dir.join("volumes").join(name);
        if root.exists() {
            fs::remove_dir_all(&root).unwrap();
        }
        fs::create_dir_all(root.join("nix")).unwrap();
        Self { root }
    }

    /// Also right after a kill, before anything is mended: whatever is valid is there, byte for byte.
    fn check_valid_is_whole(&self) {
        if self.root.join("nix/var/nix/db/db.sqlite").exists() {
            assert_eq!(faults(&self.root), [""; 0]);
        }
    }

    /// What a collection would do, without reading the maps of every process of the machine.
    fn forget_other_images(&self, old: &Scratch, new: &Scratch, image: &Scratch) {
        let other = if std::ptr::eq(image, old) { new } else { old };
        let (keep, other) = (image.image(), other.image());
        let kept = &keep.manifest().paths;
        let dead: Vec<&String> = other.manifest().paths.iter().filter(|p| !kept.contains(p)).collect();
        let mut args = vec!["--delete", "--ignore-liveness"];
        args.extend(dead.iter().map(|p| p.as_str()));
        let store = format!("local?root={}", self.root.display());
        let args: Vec<&dyn AsRef<std::ffi::OsStr>> = [&"--store" as &dyn AsRef<std::ffi::OsStr>, &store]
            .into_iter()
            .chain(args.iter().map(|a| a as &dyn AsRef<std::ffi::OsStr>))
            .collect();
        run("nix-store", &args);
    }
}
