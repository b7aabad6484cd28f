//! Roots on a scratch store with a real nix-daemon: what each is said to hold is what a collection takes when it is gone.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../crates/worker-protocol/tests/common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use agent::paths::Paths;
use common::Daemon;
use contract::config::Config;
use contract::exit::Exit;
use contract::roots::{NewRoot, Root, RootKind};
use daemon_init::roots::{self, Error, named};

const NOW: u64 = 1_700_000_000;
const DAY: u64 = 24 * 3600;

struct Scene {
    _dir: tempfile::TempDir,
    daemon: Daemon,
    paths: Paths,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let daemon = Daemon::start();
        let paths = Paths { nix: daemon.nix().to_owned(), ..Paths::scratch(dir.path()) };
        fs::create_dir_all(&paths.home).unwrap();
        Self { _dir: dir, daemon, paths }
    }

    /// Builds something of about `size` bytes that needs these paths.
    fn build(&self, name: &str, size: usize, needs: &[&str]) -> String {
        let needs: String = needs.iter().map(|path| format!(" ${{builtins.storePath {path}}}")).collect();
        let text = format!(
            "derivation {{ name = \"{name}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
               args = [ \"-c\" \"echo {} {needs} >$out\" ]; }}",
            "x".repeat(size)
        );
        let file = self.paths.home.join("default.nix");
        fs::write(&file, text).unwrap();
        let mut build = Command::new("nix-build");
        build.envs(self.daemon.client(&[]).get_envs().filter_map(|(name, value)| Some((name, value?))));
        let built = build.arg(&file).arg("--no-out-link").output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        String::from_utf8(built.stdout).unwrap().trim().to_owned()
    }

    fn add(&self, name: &str, path: &str, ttl: Option<u64>) -> Result<Root, Error> {
        named::add(&self.paths, &NewRoot { name: name.into(), path: path.into(), ttl }, NOW)
    }

    /// A `result` link in the home, as Nix makes it.
    fn result(&self, at: &str, path: &str) -> String {
        let link = self.paths.home.join(at);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        self.daemon.nix_store(&["--realise", path, "--add-root", link.to_str().unwrap()]);
        link.to_string_lossy().into_owned()
    }

    fn listed(&self) -> BTreeMap<String, Root> {
        let all = roots::list_with_sizes(&self.paths, &Config::default(), |_| Ok(())).unwrap();
        all.into_iter().map(|root| (root.name.clone(), root)).collect()
    }

    /// Sizes of all valid paths.
    fn sizes(&self) -> BTreeMap<String, u64> {
        let paths = fs::read_dir(self.paths.nix.join("store")).unwrap();
        let paths = paths.map(|entry| entry.unwrap().path().to_string_lossy().into_owned());
        let valid = paths.filter(|path| !path.ends_with(".links") && !path.ends_with(".lock"));
        let size = |path: &str| self.daemon.nix_store(&["--query", "--size", path]).parse().unwrap();
        valid.map(|path| (path.clone(), size(&path))).collect()
    }

    /// Collects, and returns the bytes of the paths that went.
    fn collect(&self) -> u64 {
        let before = self.sizes();
        self.daemon.nix_store(&["--gc"]);
        before.iter().filter(|(path, _)| !Path::new(path).exists()).map(|(_, size)| size).sum()
    }
}

#[test]
fn what_a_root_holds_alone_is_what_goes_with_it() {
    let scene = Scene::new();
    let shared = scene.build("shared", 30_000, &[]);
    let first = scene.build("first", 1_000, &[&shared]);
    let second = scene.build("second", 2_000, &[&shared]);
    let third = scene.build("third", 4_000, &[&second]);
    scene.add("first", &first, None).unwrap();
    scene.add("second", &second, None).unwrap();
    let result = scene.result("src/result", &third);
    assert_eq!(scene.collect(), 0, "all of it is held");

    let listed = scene.listed();
    let holds = |name: &str| listed[name].holds.unwrap();
    assert_eq!(listed[&result].kind, RootKind::Link);
    assert_eq!(listed[&result].path.as_ref(), Some(&third));
    // Each of them keeps the derivation that it was built from.
    assert!((1_000..10_000).contains(&holds("first").alone), "{:?}", holds("first"));
    assert!(holds("first").bytes > 31_000 && holds("first").shared() > 30_000);
    assert_eq!(holds("second").alone, 0, "third holds all of it");

    named::take_away(&scene.paths, "second", NOW).unwrap();
    assert_eq!(scene.collect(), 0);
    named::take_away(&scene.paths, "first", NOW).unwrap();
    assert_eq!(scene.collect(), holds("first").alone);
    let last = scene.listed()[&result].holds.unwrap();
    assert_eq!((last.alone, last.shared()), (last.bytes, 0));
    fs::remove_file(result).unwrap();
    assert_eq!(scene.collect(), last.bytes);
    assert!(scene.listed().is_empty());
}

#[test]
fn a_root_keeps_its_path_until_it_expires() {
    let scene = Scene::new();
    let path = scene.daemon.add("kept", b"kept");
    let other = scene.daemon.add("other", b"other");
    let added = scene.add("release", &path, Some(14 * DAY)).unwrap();
    assert_eq!(added.expires, Some(NOW + 14 * DAY));
    scene.add("other", &other, None).unwrap();
    scene.collect();
    assert!(Path::new(&path).exists());
    assert_eq!(named::expire(&scene.paths, NOW + 14 * DAY - 1).unwrap(), [""; 0]);
    // Once more: it stays for longer, and is no other root.
    let again = named::add(
        &scene.paths,
        &NewRoot { name: "release".into(), path: path.clone(), ttl: Some(14 * DAY) },
        NOW + DAY,
    );
    let again = again.unwrap();
    assert_eq!((again.since, again.expires), (Some(NOW), Some(NOW + 15 * DAY)));
    assert_eq!(named::expire(&scene.paths, NOW + 14 * DAY).unwrap(), [""; 0]);
    assert_eq!(named::expire(&scene.paths, NOW + 15 * DAY).unwrap(), ["release"]);
    scene.collect();
    assert!(!Path::new(&path).exists() && Path::new(&other).exists());
    // Its name is free.
    scene.add("release", &other, None).unwrap();
}

#[test]
fn what_cannot_be_a_root_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    let path = scene.daemon.add("kept", b"kept");
    let other = scene.daemon.add("other", b"other");
    scene.add("mine", &path, Some(DAY)).unwrap();
    let gone = scene.daemon.add("gone", b"gone");
    scene.daemon.nix_store(&["--delete", &gone]);
    let before = scene.listed();
    let in_store = format!("{path}/bin");
    for (name, path, says, exit) in [
        ("mine", other.as_str(), path.as_str(), Exit::InUse),
        ("../x", &other, "no name", Exit::Usage),
        (".note", &other, "no name", Exit::Usage),
        ("new", "/etc/passwd", "not a store path", Exit::Usage),
        ("new", &in_store, "not a store path", Exit::Usage),
        ("new", &gone, "not in the builder's store", Exit::Usage),
    ] {
        let error = scene.add(name, path, None).unwrap_err();
        assert!(error.to_string().contains(says), "{name} {path}: {error}");
        assert_eq!(error.exit(), exit, "{name} {path}");
    }
    for name in ["none", "../auto", ".mine"] {
        let error = named::take_away(&scene.paths, name, NOW).unwrap_err();
        assert_eq!(error.exit(), Exit::Usage, "{name}: {error}");
    }
    assert_eq!(scene.listed(), before);
    // One that has expired is no more, whether it was taken away already or not.
    let error = named::take_away(&scene.paths, "mine", NOW + DAY).unwrap_err();
    assert!(matches!(error, Error::NoSuchName(_)), "{error}");
}

#[test]
fn a_note_that_is_damaged_keeps_its_root() {
    let scene = Scene::new();
    let path = scene.daemon.add("kept", b"kept");
    scene.add("mine", &path, Some(DAY)).unwrap();
    let folder = scene.paths.nix.join("var/nix/gcroots/trampoline-named");
    fs::write(folder.join(".mine"), "{").unwrap();
    assert_eq!(named::expire(&scene.paths, u64::MAX).unwrap(), [""; 0]);
    assert_eq!(scene.listed()["mine"].expires, None);
    // A crash between the two: a note alone is no root, and in nobody's way.
    fs::remove_file(folder.join("mine")).unwrap();
    assert!(scene.listed().is_empty());
    scene.add("mine", &path, None).unwrap();
    // A link that is not ours leads nowhere.
    symlink("/etc", folder.join("theirs")).unwrap();
    assert_eq!(scene.listed().len(), 1);
}

impl Scene {
    /// Sets a link's time back.
    fn age(&self, link: &str, days: u64) {
        let at = format!("@{}", agent::unix_now() - days * DAY);
        let touched = Command::new("touch").args(["-h", "-d", &at, link]).status().unwrap();
        assert!(touched.success());
    }

    fn let_go(&self, dry_run: bool) -> Vec<String> {
        let gone = roots::let_go(&self.paths, Duration::from_secs(30 * DAY), dry_run).unwrap();
        gone.into_iter().map(|root| root.name).collect()
    }
}

#[test]
fn a_forgotten_link_keeps_nothing_any_more_and_stays_where_it_is() {
    let scene = Scene::new();
    let path = |name: &str| scene.daemon.add(name, name.as_bytes());
    let (old, young, job, generation) = (path("old"), path("young"), path("job"), path("generation"));
    let forgotten = scene.result("src/result", &old);
    // Of a development shell, which nobody else ages.
    let shell = scene.result("src/.direnv/shell-1-link", &old);
    let kept = scene.result("src/young", &young);
    let of_job = scene.result(".local/state/trampoline/jobs/1-1/result", &job);
    let of_profile = scene.result(".local/state/nix/profiles/profile-1-link", &generation);
    scene.age(&forgotten, 31);
    scene.age(&shell, 40);
    scene.age(&kept, 29);
    scene.age(&of_job, 400);
    scene.age(&of_profile, 400);
    // A way that only Nix goes; its link is as old as can be.
    fs::create_dir(scene.paths.home.join("elsewhere")).unwrap();
    symlink("elsewhere", scene.paths.home.join("through")).unwrap();
    let through = path("through");
    let link = scene.result("through/result", &through);
    scene.age(&link, 400);

    assert_eq!(scene.let_go(true), [shell.as_str(), &forgotten]);
    scene.collect();
    assert!(Path::new(&old).exists(), "nothing was done yet");
    assert_eq!(scene.let_go(false), [shell.as_str(), &forgotten]);
    assert_eq!(scene.let_go(false), [""; 0]);
    scene.collect();
    assert!(!Path::new(&old).exists());
    assert!(fs::symlink_metadata(&forgotten).is_ok() && fs::symlink_metadata(&shell).is_ok());
    for kept in [young, job, generation, through] {
        assert!(Path::new(&kept).exists(), "{kept}");
    }
    // It is a root again when it is made again.
    let old = path("old");
    scene.result("src/result", &old);
    scene.collect();
    assert!(Path::new(&old).exists());
}

#[test]
fn no_collection_waits_for_an_expired_root_to_be_taken_away() {
    let scene = Scene::new();
    fs::create_dir_all(scene.paths.config.parent().unwrap()).unwrap();
    fs::write(&scene.paths.config, "[maintenance]\ngrace-window = \"0s\"\n").unwrap();
    fs::create_dir_all(scene.paths.mark_dir()).unwrap();
    let (expired, kept) = (scene.daemon.add("expired", b"expired"), scene.daemon.add("kept", b"kept"));
    scene.add("expired", &expired, Some(60)).unwrap();
    scene.add("kept", &kept, None).unwrap();
    daemon_init::in_use::gate::close(&scene.paths, &contract::handshake::Life("b:1".into())).unwrap();
    // A user's own.
    scene.collect();
    assert!(!Path::new(&expired).exists() && Path::new(&kept).exists());
}
