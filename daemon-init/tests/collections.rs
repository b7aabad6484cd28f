//! Collections by a real nix-daemon that may read nobody else's processes, beside a program that runs as another user: as root, on
//! a scratch store and without containers. The test plays user-init.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../crates/worker-protocol/tests/common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::status::Reporter;
use agent::watch::DirWatch;
use agent::{files, proc, published};
use common::Daemon;
use contract::handshake::{Life, Phase};
use contract::in_use::{GRACE, Grace, IN_USE, InUse, LOOK, Look, Process};
use contract::places::Container;
use daemon_init::database;
use daemon_init::in_use::{forget, gate};
use worker_protocol::{Connection, Error, GcAction};

/// Nothing here takes a second on a quiet machine; the tests share theirs.
const PATIENCE: Duration = Duration::from_secs(60);
/// Root without what lets it read the processes of others; newer kernels let whoever may trace the machine's performance read
/// their maps.
const BLIND: [&str; 4] = [
    "setpriv",
    "--bounding-set=-sys_ptrace,-perfmon,-sys_admin",
    "--inh-caps=-sys_ptrace,-perfmon,-sys_admin",
    "--",
];

/// Daemon, run volume, and a program of the store that runs as somebody else.
struct Scene {
    _run: tempfile::TempDir,
    paths: Paths,
    life: Life,
    daemon: Daemon,
    program: PathBuf,
    running: Child,
}

/// The two ends of the play: looks that were asked for, and what to answer.
struct User {
    asked: Receiver<Look>,
    seen: Sender<BTreeSet<String>>,
}

impl Scene {
    /// `None` where the kernel would refuse it all.
    fn new() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            let words = b"\nSKIPPED: these collections beside another user's program need root\n";
            let _ = std::io::Write::write_all(&mut std::io::stderr(), words);
            return None;
        }
        let run = tempfile::tempdir().unwrap();
        let daemon = Daemon::start_by(&BLIND);
        fs::set_permissions(daemon.nix(), Permissions::from_mode(0o755)).unwrap();
        let paths = Paths { nix: daemon.nix().to_owned(), ..Paths::scratch(run.path()) };
        for container in Container::ALL {
            fs::create_dir_all(paths.run_dir(container)).unwrap();
        }
        let program = daemon.nix().join("sleep");
        fs::copy("/bin/sleep", &program).unwrap();
        let program = PathBuf::from(daemon.nix_store(&["--add", program.to_str().unwrap()]));
        let running = Command::new(&program).arg("infinity").uid(1000).gid(1000).spawn().unwrap();
        let life = Life("b:1".into());
        // What is fresh goes as well, but where a test says otherwise.
        grace_window(&paths, "0s");
        Some(Self { _run: run, paths, life, daemon, program, running })
    }

    fn name(&self) -> BTreeSet<String> {
        [self.program.file_name().unwrap().to_str().unwrap().to_owned()].into()
    }

    /// From now on each look that is asked for is told, and answered when the play says with what.
    fn user_init(&self) -> User {
        Reporter::new(&self.paths, &self.life, Container::User, "1").phase(Phase::Running, "serves");
        let (ask, asked) = mpsc::channel();
        let (seen, see) = mpsc::channel();
        let (paths, life) = (self.paths.clone(), self.life.clone());
        let mut watch = DirWatch::new().unwrap();
        watch.add(&paths.run_dir(Container::Daemon)).unwrap();
        std::thread::spawn(move || {
            let mut last = 0;
            loop {
                let look = published::read::<Look>(&paths, &life, Container::Daemon, LOOK);
                if let Some(look) = look.filter(|look| look.asked > last) {
                    last = look.asked;
                    // The test may be over.
                    if ask.send(look).is_err() {
                        return;
                    }
                    let Ok(names) = see.recv() else { return };
                    let seen = InUse { life: life.clone(), looked: last, names };
                    files::write_json(&paths.run_dir(Container::User), IN_USE, &seen).unwrap();
                }
                watch.wait(None).unwrap();
            }
        });
        User { asked, seen }
    }

    /// A path that nothing refers to.
    fn litter(&self, name: &str) -> PathBuf {
        self.daemon.add(name, name.as_bytes()).into()
    }

    fn collect(&self) -> Child {
        self.daemon.client(&["--gc"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// The process still runs what is in the store.
    fn assert_running(&mut self) {
        assert!(self.running.try_wait().unwrap().is_none());
        let running = fs::read_link(format!("/proc/{}/exe", self.running.id())).unwrap();
        assert_eq!(running, self.program);
        assert!(self.program.exists());
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.running.kill();
        let _ = self.running.wait();
    }
}

impl User {
    /// From now on, with these.
    fn answers(self, names: BTreeSet<String>) -> Arc<Mutex<BTreeSet<String>>> {
        let names = Arc::new(Mutex::new(names));
        let ours = Arc::clone(&names);
        std::thread::spawn(move || {
            // Until the test is over.
            while self.asked.recv().is_ok() && self.seen.send(ours.lock().unwrap().clone()).is_ok() {}
        });
        names
    }
}

fn grace_window(paths: &Paths, window: &str) {
    let (dir, text) = (paths.config.parent().unwrap(), format!("[maintenance]\ngrace-window = {window:?}\n"));
    fs::create_dir_all(dir).unwrap();
    fs::write(&paths.config, text).unwrap();
}

fn ended(collection: Child) {
    let (status, words) = end_of(collection);
    assert!(status.success(), "{status}: {words}");
}

/// With what it said.
fn end_of(mut collection: Child) -> (ExitStatus, String) {
    let mut stderr = collection.stderr.take().unwrap();
    let words = std::thread::spawn(move || {
        let mut words = String::new();
        stderr.read_to_string(&mut words).map(|_| words)
    });
    let end = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = collection.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < end, "the collection does not end");
        std::thread::yield_now();
    };
    (status, words.join().unwrap().unwrap())
}

/// Until a collection stands at the gate.
fn until_one_waits(paths: &Paths) {
    let inode = fs::metadata(paths.nix.join("var/nix/gc.lock")).unwrap().ino();
    let end = Instant::now() + PATIENCE;
    let waits = |lock: &agent::proc::Flock| lock.waits && lock.inode == inode;
    while !agent::proc::flocks(Path::new("/proc")).unwrap().iter().any(waits) {
        assert!(Instant::now() < end, "no collection waits");
        std::thread::yield_now();
    }
}

#[test]
fn without_a_gate_the_program_is_deleted_under_its_process() {
    let Some(scene) = Scene::new() else { return };
    let kept = scene.litter("kept");
    scene.daemon.root(kept.to_str().unwrap());
    ended(scene.collect());
    assert!(kept.exists());
    assert!(!scene.program.exists(), "else the other tests show nothing: this daemon sees who runs it");
}

#[test]
fn collections_spare_what_runs_for_as_long_as_it_runs() {
    let Some(mut scene) = Scene::new() else { return };
    gate::close(&scene.paths, &scene.life).unwrap();
    let names = scene.user_init().answers(scene.name());
    for round in 0..20 {
        let litter = scene.litter(&format!("litter-{round}"));
        ended(scene.collect());
        assert!(!litter.exists(), "it collects");
        scene.assert_running();
    }
    names.lock().unwrap().clear();
    ended(scene.collect());
    assert!(!scene.program.exists(), "nobody uses it any more");
}

#[test]
fn a_collection_begins_when_the_look_is_over_and_keeps_nobody_else_waiting() {
    let Some(mut scene) = Scene::new() else { return };
    gate::close(&scene.paths, &scene.life).unwrap();
    let user = scene.user_init();
    let litter = scene.litter("litter");
    let mut first = scene.collect();
    user.asked.recv_timeout(PATIENCE).unwrap();
    until_one_waits(&scene.paths);
    // Whoever adds paths takes temporary roots of them, and with that the lock that collections wait for.
    scene.litter("more");
    assert!(first.try_wait().unwrap().is_none() && litter.exists(), "it waits");
    // One that gives up is forgotten.
    first.kill().unwrap();
    first.wait().unwrap();
    user.seen.send(scene.name()).unwrap();
    user.answers(scene.name());
    ended(scene.collect());
    assert!(!litter.exists());
    scene.assert_running();
}

#[test]
fn several_at_once_are_all_let_in() {
    let Some(mut scene) = Scene::new() else { return };
    gate::close(&scene.paths, &scene.life).unwrap();
    scene.user_init().answers(scene.name());
    for _ in 0..5 {
        let collections: Vec<Child> = (0..4).map(|_| scene.collect()).collect();
        collections.into_iter().for_each(ended);
        scene.assert_running();
    }
}

#[test]
fn where_user_init_does_not_serve_what_was_in_use_before_stays() {
    let Some(mut scene) = Scene::new() else { return };
    gate::close(&scene.paths, &scene.life).unwrap();
    let user = scene.user_init();
    let collection = scene.collect();
    user.asked.recv_timeout(PATIENCE).unwrap();
    user.seen.send(scene.name()).unwrap();
    ended(collection);
    drop(user);
    Reporter::new(&scene.paths, &scene.life, Container::User, "1").phase(Phase::Failed, "failed");
    let litter = scene.litter("litter");
    ended(scene.collect());
    assert!(!litter.exists(), "nobody is waited for");
    scene.assert_running();
    forget(&scene.paths);
    ended(scene.collect());
    assert!(!scene.program.exists());
}

#[test]
fn what_has_just_come_in_is_spared_whoever_collects() {
    let Some(scene) = Scene::new() else { return };
    grace_window(&scene.paths, "1h");
    gate::close(&scene.paths, &scene.life).unwrap();
    let fresh = scene.litter("fresh");
    ended(scene.collect());
    assert!(fresh.exists(), "nobody holds it yet, and somebody may be about to use it");
    // What maintenance is told to do counts while it does it.
    let us = proc::ourselves(Path::new("/proc")).unwrap();
    let announce = |start_time| {
        let grace = Grace { life: scene.life.clone(), by: Process { start_time, ..us }, seconds: 0 };
        files::write_json(&scene.paths.run_dir(Container::Maintenance), GRACE, &grace).unwrap();
    };
    announce(us.start_time + 1);
    ended(scene.collect());
    assert!(fresh.exists(), "whoever said so is gone");
    announce(us.start_time);
    ended(scene.collect());
    assert!(!fresh.exists());
}

#[test]
fn the_log_of_the_database_is_short_after_a_collection_although_somebody_stays() {
    let Some(scene) = Scene::new() else { return };
    gate::close(&scene.paths, &scene.life).unwrap();
    scene.user_init().answers(scene.name());
    let stream = std::os::unix::net::UnixStream::connect(scene.daemon.socket()).unwrap();
    let mut stays = Connection::open(stream).unwrap();
    assert!(stays.path_info(scene.program.to_str().unwrap()).unwrap().is_some());
    let log = || fs::metadata(scene.paths.nix.join("var/nix/db/db.sqlite-wal")).map_or(0, |log| log.len());
    let mut paths = 0;
    while log() <= database::LONG {
        scene.daemon.add(&format!("litter-{paths}"), b"");
        paths += 1;
    }
    ended(scene.collect());
    let end = Instant::now() + PATIENCE;
    while log() > database::LONG {
        assert!(Instant::now() < end, "{} after {paths} paths", log());
        std::thread::yield_now();
    }
    assert!(stays.path_info(scene.program.to_str().unwrap()).unwrap().is_some());
}

/// Collections beside work; more of them in a soak.
const ROUNDS: &str = "TRAMPOLINE_COLLECTION_ROUNDS";

/// By whoever collects: the others must fail no more than it is over.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Scene {
    fn said(&self, program: &str, args: &[&str]) -> String {
        let out = self.daemon.program(program).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{program} {args:?}: {said}");
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// As somebody works: a source is brought in by one conversation, and by others it is built from, twice. Nothing but the window
    /// holds it in between.
    fn build(&self, who: &str, round: usize) {
        let source = self.litter(&format!("source-{who}-{round}"));
        let mut input = source.display().to_string();
        for step in 0..2 {
            let expression = format!(
                "derivation {{ name = \"built-{who}-{round}-{step}\"; system = builtins.currentSystem; builder = \"/bin/sh\"; \
                 args = [ \"-c\" \"read -r line <$input; echo $line {step} >$out\" ]; input = builtins.storePath {input}; }}"
            );
            input = self.said("nix-build", &["--no-out-link", "-E", &expression]);
        }
        let built = fs::read_to_string(&input).unwrap();
        assert_eq!(built, format!("source-{who}-{round} 0 1\n"));
    }

    /// What comes from elsewhere, again and again, whether a collection has taken it meanwhile or not.
    fn copy(&self, exported: &Path) {
        let mut import = self.daemon.client(&["--import"]);
        import.stdin(fs::File::open(exported).unwrap()).stdout(Stdio::null());
        assert!(import.status().unwrap().success());
    }

    /// False where Nix's own process came to an end in the middle. A thread of its that has served another process before it is listed
    /// leaves an entry behind, and the next one of the same descriptor ends them all (gc.cc, up to 2.26 at least). It is rare, takes a
    /// busy machine, and loses nothing.
    fn collected(&self) -> bool {
        let (status, words) = end_of(self.collect());
        assert!(status.success() || words.contains("unexpected end-of-file"), "{status}: {words}");
        status.success()
    }

    /// As maintenance does it: in small steps. False as with [`Self::collected`].
    fn collect_in_steps(&self) -> bool {
        const STEP: u64 = 64 << 10;
        loop {
            let stream = std::os::unix::net::UnixStream::connect(self.daemon.socket()).unwrap();
            let mut connection = Connection::open(stream).unwrap();
            let action = GcAction::DeleteDead { max_freed: Some(STEP) };
            let freed = match connection.collect_garbage(&action, &mut |_| {}, |_| {}) {
                Ok(collected) => collected.bytes_freed,
                Err(Error::Io(error)) if error.kind() == ErrorKind::UnexpectedEof => return false,
                Err(error) => panic!("{error:?}"),
            };
            agent::in_use::await_gate(&self.paths).unwrap();
            if freed <= STEP {
                return true;
            }
        }
    }
}

#[test]
fn rounds_beside_builds_copies_and_a_running_program_lose_nothing() {
    let Some(mut scene) = Scene::new() else { return };
    // Longer than a build takes from its source to its end, on a machine that has other things to do.
    grace_window(&scene.paths, "20s");
    gate::close(&scene.paths, &scene.life).unwrap();
    scene.user_init().answers(scene.name());
    let rounds: usize = std::env::var(ROUNDS).map_or(15, |count| count.parse().unwrap());
    let first = scene.litter("litter-first");
    let paths = ["copied-a", "copied-b"].map(|name| scene.litter(name).display().to_string());
    let exported = scene.daemon.nix().join("exported");
    let export = scene.daemon.client(&["--export", &paths[0], &paths[1]]).output().unwrap();
    fs::write(&exported, export.stdout).unwrap();
    let (over, worked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let (scene, over, worked) = (&scene, &over, &worked);
        for who in ["a", "b"] {
            scope.spawn(move || {
                let mut rounds = (0..).take_while(|_| !over.load(Ordering::SeqCst));
                rounds.by_ref().for_each(|round| {
                    scene.build(who, round);
                    worked.fetch_add(1, Ordering::SeqCst);
                });
            });
        }
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                scene.copy(&exported);
            }
        });
        let _over = Over(over);
        let mut whole = 0;
        for round in 0..rounds {
            scene.litter(&format!("litter-{round}"));
            let collected = if round % 2 == 0 { scene.collected() } else { scene.collect_in_steps() };
            whole += usize::from(collected);
        }
        assert!(
            (rounds - whole) * 100 <= rounds.max(100),
            "only {whole} of {rounds} collections came to their end"
        );
        // What is old goes all the same.
        let end = Instant::now() + PATIENCE;
        while first.exists() || worked.load(Ordering::SeqCst) < 2 {
            assert!(Instant::now() < end, "nothing is collected, or nothing built");
            scene.collect_in_steps();
        }
    });
    scene.assert_running();
}
