//! Damaged paths of a store that serves: a real nix-daemon, and a binary cache in a folder.

use std::cell::RefCell;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use agent::paths::Paths;
use contract::damage::{Damage, Damaged, Fate, Found};
use contract::places::Container;
use daemon_init::{damage as record, repair};
use worker_protocol::Connection;

use crate::daemon::Daemon;
use crate::image::add_users_path;
use crate::losses::{NOTHING_IS_NEW, Scene, damage};
use crate::store::{assert_whole, faults};

struct Serving {
    scene: Scene,
    paths: Paths,
    cache: PathBuf,
    _daemon: Daemon,
}

impl Serving {
    fn new() -> Self {
        let scene = Scene::new();
        let base = scene.dir.path();
        let cache = base.join("cache");
        let daemon = Daemon::start(&scene.root, &format!("file://{}?trusted=true", cache.display()));
        let paths = Paths {
            volume_root: scene.root.clone(),
            nix: scene.root.join("nix"),
            image: base.join("image/opt/trampoline"),
            ..Paths::scratch(base)
        };
        fs::create_dir_all(paths.run_dir(Container::Daemon)).unwrap();
        Self { scene, paths, cache, _daemon: daemon }
    }

    fn repair(&self, path: &str) -> Option<Damaged> {
        let told = RefCell::new(Vec::new());
        let progress = |message: &str| {
            told.borrow_mut().push(message.to_owned());
            Ok(())
        };
        repair::repair(&self.paths, path, &progress).unwrap()
    }

    fn upload(&self, path: &str) {
        let output = Command::new("nix")
            .env_remove("NIX_REMOTE")
            .args(["--extra-experimental-features", "nix-command", "copy", "--no-check-sigs"])
            .args(["--from", &format!("local?root={}", self.scene.root.display())])
            .args(["--to", &format!("file://{}", self.cache.display()), path])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_a_substituter_has_is_fetched_again() {
    let serving = Serving::new();
    let path = add_users_path(&serving.scene.root, "mine");
    let referrer = serving.scene.add_referrer("referrer", &path);
    serving.upload(&path);
    assert_eq!(serving.repair(&path), None, "it is in order");
    damage(&serving.scene.place(&path));
    let one = serving.repair(&path).unwrap();
    assert_eq!((one.fate, one.found), (Fate::Fetched, Found::Verify), "{one:?}");
    assert_eq!(fs::read_to_string(serving.scene.place(&path)).unwrap(), "mine");
    assert!(serving.scene.is_valid(&path) && serving.scene.is_valid(&referrer));
    let life = agent::life::current(&serving.paths).unwrap();
    let file = serving.paths.run_dir(Container::Daemon).join(contract::damage::DAMAGE);
    let published: Damage = agent::files::read_json(&file).unwrap().unwrap();
    assert_eq!((published.life, published.paths), (life, vec![one]));
}

#[test]
fn what_nobody_has_is_served_no_more() {
    let serving = Serving::new();
    let path = add_users_path(&serving.scene.root, "mine");
    let referrer = serving.scene.add_referrer("referrer", &path);
    let kept = add_users_path(&serving.scene.root, "kept");
    damage(&serving.scene.place(&path));
    // Rooted as it is, and held besides by whoever has read it.
    let reader = UnixStream::connect(serving.paths.daemon_socket()).unwrap();
    let mut reader = Connection::open(reader).unwrap();
    reader.add_temp_root(&path).unwrap();
    assert_eq!(serving.repair(&path).unwrap().fate, Fate::Removed);
    assert!(!serving.scene.is_valid(&path) && !serving.scene.place(&path).exists());
    assert!(!serving.scene.is_valid(&referrer) && serving.scene.is_valid(&kept));
    assert_eq!(serving.repair(&path), None, "it is no longer there");
    assert_eq!(faults(&serving.scene.root), [""; 0]);
}

#[test]
fn what_the_image_has_is_made_anew_by_the_next_start() {
    let serving = Serving::new();
    let scene = &serving.scene;
    let path = scene.image.manifest().paths.iter().find(|path| scene.place(path).is_dir()).unwrap();
    damage(&scene.place(path).join("file-0"));
    for _ in 0..2 {
        assert_eq!(serving.repair(path).unwrap().fate, Fate::AtNextStart);
    }
    assert!(scene.is_valid(path), "what runs goes on");
    let mark_dir = serving.paths.mark_dir();
    let waiting = record::waiting(&mark_dir);
    assert_eq!(waiting, [path.as_str()]);
    let restored = scene.verify(NOTHING_IS_NEW, &waiting).damaged;
    assert_eq!(restored.iter().map(|one| one.fate).collect::<Vec<_>>(), [Fate::Restored]);
    record::settled(&mark_dir);
    assert!(record::waiting(&mark_dir).is_empty());
    fs::remove_file(mark_dir.join(contract::damage::DAMAGE)).unwrap();
    assert_whole(&scene.root, &scene.image);
}

#[test]
fn only_store_paths_are_looked_at() {
    let serving = Serving::new();
    for path in ["/etc/passwd", "/nix/store/../../etc", "/nix/store/.links", "/nix/store", ""] {
        let refused = repair::repair(&serving.paths, path, &|_| Ok(())).unwrap_err();
        assert_eq!(refused.exit(), contract::exit::Exit::Usage, "{path}: {refused}");
    }
}
