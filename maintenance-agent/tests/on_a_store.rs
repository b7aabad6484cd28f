//! The agent beside a real nix-daemon on a scratch store; the test plays the other containers.

#[path = "../../crates/worker-protocol/tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::signals::Signals;
use agent::status::Reporter;
use agent::wait::{Waiter, Wake};
use agent::watch::DirWatch;
use agent::{files, life, proc};
use common::Daemon;
use contract::exit::Exit;
use contract::handshake::{
    DaemonActivity, GcSummary, Life, Phase, Ready, StopEnd, StopPhase, StopRequest, StoreStatus,
    UserActivity, file,
};
use contract::in_use::{IN_USE, InUse, LOOK, Look};
use contract::places::Container;
use contract::tidy::{TIDIED, TIDY, Tidied, Tidy};
use maintenance_agent::collection::Bounds;
use maintenance_agent::once::{Wish, once};
use maintenance_agent::schedule::Schedule;
use maintenance_agent::serve::serve_from;

fn write<T: serde::Serialize>(dir: &Path, name: &str, value: &T) {
    files::write_json(dir, name, value).expect("the folder is there");
}

struct Pod {
    root: tempfile::TempDir,
    paths: Paths,
    life: Life,
    daemon: Daemon,
}

impl Pod {
    /// With a daemon that is ready, idle, and listens where ours would.
    fn new() -> Self {
        let root = tempfile::tempdir().expect("a scratch folder");
        let daemon = Daemon::start();
        let paths = Paths { nix: daemon.nix().to_owned(), ..Paths::scratch(root.path()) };
        for container in Container::ALL {
            std::fs::create_dir_all(paths.run_dir(container)).expect("scratch");
        }
        let life = life::current(&paths).expect("/proc is there");
        let pod = Self { root, paths, life, daemon };
        pod.builds(0);
        let user = UserActivity::quiet(pod.life.clone());
        write(&pod.paths.run_dir(Container::User), file::ACTIVITY, &user);
        pod
    }

    fn ready(&self) {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        let start_time = proc::start_time(&self.paths.proc, pid).expect("/proc").expect("we live");
        let (store_id, nix_version, image) = (String::new(), String::new(), String::new());
        let life = self.life.clone();
        let ready = Ready { life, pid, start_time, store_id, nix_version, image, isolation: None, at: 0 };
        write(&self.paths.run_dir(Container::Daemon), file::READY, &ready);
    }

    fn builds(&self, builds: u32) {
        let activity = DaemonActivity { life: self.life.clone(), builds, begun: 0, last_build: 0 };
        write(&self.paths.run_dir(Container::Daemon), file::ACTIVITY, &activity);
    }

    fn stop(&self, phase: StopPhase) {
        let (life, reason) = (self.life.clone(), String::new());
        let stop = StopRequest { life, generation: 1, phase, end: StopEnd::Leave, reason, last_activity: 0 };
        write(&self.paths.run_dir(Container::ShutdownMonitor), file::STOP, &stop);
    }

    fn config(&self, text: &str) {
        let dir = self.root.path().join("config");
        std::fs::create_dir_all(&dir).expect("scratch");
        files::write_bytes(&dir, "trampoline.toml", 0o644, text.as_bytes()).expect("scratch");
    }

    fn store(&self) -> Option<StoreStatus> {
        maintenance_agent::store::published(&self.paths, &self.life)
    }

    fn once(&self, wish: &Wish) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = once(&self.paths, wish, &mut out, &mut err);
        (exit, String::from_utf8_lossy(&out).into_owned(), String::from_utf8_lossy(&err).into_owned())
    }
}

/// The agent, serving; what it publishes is waited for.
struct Served<'a> {
    pod: &'a Pod,
    signals: Signals,
    end: mpsc::Receiver<Exit>,
}

impl<'a> Served<'a> {
    fn begin(pod: &'a Pod, schedule: Schedule) -> Self {
        let signals = Signals::install().expect("handlers");
        let (ended, end) = mpsc::channel();
        let paths = pod.paths.clone();
        std::thread::spawn(move || ended.send(serve_from(&paths, schedule)));
        Self { pod, signals, end }
    }

    fn until(&self, is: impl Fn(&StoreStatus) -> bool) -> StoreStatus {
        let mut waiter = Waiter::new(&self.signals).expect("inotify");
        waiter.watch_dir(&self.pod.paths.run_dir(Container::Maintenance)).expect("it is there");
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.pod.store().filter(|s| is(s)) {
                return status;
            }
            let wake = waiter.wait(Some(deadline)).expect("waiting works");
            assert_ne!(wake, Wake::Deadline, "it does not come: {:?}", self.pod.store());
        }
    }

    fn stop(self) {
        self.pod.stop(StopPhase::Final);
        assert_eq!(self.end.recv_timeout(Duration::from_secs(20)), Ok(Exit::Ok));
    }
}

#[test]
fn it_measures_collects_when_due_and_leaves_at_the_final_stop() {
    let pod = Pod::new();
    pod.config("[maintenance]\ninterval = \"60s\"\ncollect-below = \"0%\"\nrefuse-below = \"0%\"\n");
    let (kept, dead) = (pod.daemon.add("kept", &[1; 5000]), pod.daemon.add("dead", &[2; 5000]));
    pod.daemon.root(&kept);
    // Due two seconds from now.
    let mut schedule = Schedule::default();
    schedule.collected(Instant::now(), Duration::from_secs(58));
    let served = Served::begin(&pod, schedule);
    pod.ready();
    let first = served.until(|_| true);
    assert_eq!((first.paths, &first.last_gc), (2, &None));
    assert!(first.nar_bytes > 10_000 && first.fs_bytes > first.fs_free_bytes, "{first:?}");
    let after = served.until(|s| s.last_gc.as_ref().is_some_and(|gc| gc.optimised));
    assert_eq!(after.paths, 1);
    let gc = after.last_gc.expect("just seen");
    assert!(gc.optimised && !gc.dry_run && gc.freed_bytes > 0, "{gc:?}");
    assert_eq!(gc.cause, "schedule");
    assert!(Path::new(&kept).exists() && !Path::new(&dead).exists());
    served.stop();
}

#[test]
fn with_too_little_free_it_collects_at_once_and_links_files_when_nobody_works() {
    let pod = Pod::new();
    pod.config("[maintenance]\ninterval = \"never\"\ncollect-below = \"1000Ti\"\nrefuse-below = \"0%\"\n");
    let dead = pod.daemon.add("dead", &[2; 5000]);
    pod.builds(1);
    let served = Served::begin(&pod, Schedule::default());
    pod.ready();
    let status = served.until(|s| s.last_gc.is_some());
    let gc = status.last_gc.expect("just seen");
    assert!(gc.cause == "pressure" && gc.paths == 1 && gc.free_bytes.is_some() && !gc.optimised, "{gc:?}");
    let short = status.short.expect("it is said");
    assert!(short.contains("below `collect-below` (1000Ti)") && short.contains("freed"), "{short}");
    assert!(!Path::new(&dead).exists());
    pod.builds(0);
    served.until(|s| s.last_gc.as_ref().is_some_and(|gc| gc.optimised));
    // More is free than is asked for now.
    pod.config("[maintenance]\ninterval = \"never\"\ncollect-below = \"1B\"\nrefuse-below = \"0%\"\n");
    served.until(|s| s.short.is_none());
    served.stop();
}

#[test]
fn a_large_collection_is_done_in_steps() {
    let pod = Pod::new();
    pod.ready();
    let kept = pod.daemon.add("kept", &[1; 5000]);
    pod.daemon.root(&kept);
    for number in 0..9u8 {
        pod.daemon.add(&format!("dead-{number}"), &vec![number; 10 << 20]);
    }
    let (exit, out, err) = pod.once(&Wish { json: true, ..Wish::default() });
    assert_eq!(exit, Exit::Ok, "{err}");
    let summary: GcSummary = serde_json::from_str(&out).expect("JSON");
    assert!(summary.paths == 9 && summary.freed_bytes >= 90 << 20, "{out}");
    let steps = err.lines().filter(|line| line.contains("finding garbage collector roots")).count();
    assert!(steps > 1, "{err}");
    assert!(Path::new(&kept).exists());
}

#[test]
fn a_collection_that_was_asked_for() {
    let pod = Pod::new();
    let dead = pod.daemon.add("dead", &[2; 5000]);
    let json = Wish { json: true, ..Wish::default() };
    let (exit, _, err) = pod.once(&json);
    assert_eq!(exit, Exit::Stopping, "{err}");
    assert!(err.contains("not ready") && Path::new(&dead).exists(), "{err}");

    pod.ready();
    for phase in [StopPhase::Ask, StopPhase::Final] {
        pod.stop(phase);
        assert_eq!(pod.once(&json).0, Exit::Stopping);
    }
    pod.stop(StopPhase::Open);
    let (exit, out, err) = pod.once(&Wish { dry_run: true, json: true, ..Wish::default() });
    assert_eq!(exit, Exit::Ok, "{err}");
    let summary: GcSummary = serde_json::from_str(&out).expect("JSON");
    assert!(summary.dry_run && summary.paths == 1 && summary.freed_bytes > 5000, "{out}");
    assert!(Path::new(&dead).exists() && pod.store().is_none());

    // Linking files waits for builds to end; collecting does not.
    pod.builds(1);
    let (exit, out, err) = pod.once(&Wish { optimise: true, ..Wish::default() });
    assert_eq!(exit, Exit::Ok, "{err}");
    assert!(out.contains("deleted") && !out.contains("linked"), "{out}");
    assert!(err.contains("somebody works"), "{err}");
    assert!(!Path::new(&dead).exists());
    pod.builds(0);
    let (_, out, _) = pod.once(&Wish { optimise: true, json: true, ..Wish::default() });
    let summary: GcSummary = serde_json::from_str(&out).expect("JSON");
    assert!(summary.optimised && summary.cause == "asked", "{out}");
    assert_eq!(pod.store().and_then(|s| s.last_gc), Some(summary));
}

/// Begins to build as soon as it is said that files are linked.
struct Beginner<'a> {
    pod: &'a Pod,
    said: Vec<u8>,
}

impl std::io::Write for Beginner<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let before = String::from_utf8_lossy(&self.said).contains("linking identical");
        self.said.extend_from_slice(bytes);
        if !before && String::from_utf8_lossy(&self.said).contains("linking identical") {
            self.pod.builds(1);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn linking_that_was_asked_for_ends_when_somebody_works() {
    let pod = Pod::new();
    pod.ready();
    // Reading it takes longer than to notice.
    let large = pod.daemon.add("large", &vec![2; 200 << 20]);
    std::os::unix::fs::symlink(&large, pod.daemon.nix().join("var/nix/gcroots/large")).expect("a root");
    let wish = Wish { optimise: true, ..Wish::default() };
    let (mut out, mut err) = (Vec::new(), Beginner { pod: &pod, said: Vec::new() });
    assert_eq!(once(&pod.paths, &wish, &mut out, &mut err), Exit::Ok);
    let (out, err) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(&err.said));
    assert!(err.contains("somebody began to work") && !out.contains("linked"), "{out} {err}");
    pod.builds(0);
    let (_, out, err) = pod.once(&wish);
    assert!(out.contains("identical files linked"), "{out} {err}");
}

/// As user-init does once it has been asked; it does not serve, so that nobody waits for it.
fn in_use(pod: &Pod, names: &[&str]) {
    let names = names.iter().map(ToString::to_string).collect();
    let seen = InUse { life: pod.life.clone(), looked: 0, names };
    write(&pod.paths.run_dir(Container::User), IN_USE, &seen);
}

#[test]
fn what_is_in_use_is_spared() {
    let pod = Pod::new();
    pod.ready();
    let (used, dead) = (pod.daemon.add("used", &[1; 5000]), pod.daemon.add("dead", &[2; 5000]));
    let name = Path::new(&used).file_name().and_then(|name| name.to_str()).expect("it has one");
    in_use(&pod, &[name, "../../etc/passwd", "", "no name"]);
    let (_, out, err) = pod.once(&Wish { dry_run: true, json: true, ..Wish::default() });
    let summary: GcSummary = serde_json::from_str(&out).expect("JSON");
    assert_eq!(summary.paths, 1, "{out} {err}");
    let (exit, _, err) = pod.once(&Wish::default());
    assert_eq!(exit, Exit::Ok, "{err}");
    assert!(Path::new(&used).exists() && !Path::new(&dead).exists());

    in_use(&pod, &[]);
    assert_eq!(pod.once(&Wish::default()).0, Exit::Ok);
    assert!(!Path::new(&used).exists());
}

#[test]
fn it_is_looked_at_anew_before_each_collection() {
    let pod = Pod::new();
    pod.ready();
    let used = pod.daemon.add("used", &[1; 5000]);
    let name = Path::new(&used).file_name().and_then(|name| name.to_str()).expect("it has one");
    in_use(&pod, &[]);
    Reporter::new(&pod.paths, &pod.life, Container::User, "1").phase(Phase::Running, "serves");
    let mut watch = DirWatch::new().expect("inotify");
    watch.add(&pod.paths.run_dir(Container::Maintenance)).expect("it is there");
    let exit = std::thread::scope(|scope| {
        let once = scope.spawn(|| pod.once(&Wish::default()));
        let deadline = Instant::now() + Duration::from_secs(30);
        let asked = loop {
            let tidy = agent::published::read::<Tidy>(&pod.paths, &pod.life, Container::Maintenance, TIDY);
            if let Some(Tidy { life, asked, .. }) = tidy {
                let tidied = Tidied { life, asked, generations: Vec::new() };
                write(&pod.paths.run_dir(Container::User), TIDIED, &tidied);
            }
            let look = agent::published::read::<Look>(&pod.paths, &pod.life, Container::Maintenance, LOOK);
            match look {
                Some(look) => break look.asked,
                None => assert!(watch.wait(Some(deadline)).expect("waiting works"), "nobody asks"),
            }
        };
        let seen = InUse { life: pod.life.clone(), looked: asked, names: [name.to_owned()].into() };
        write(&pod.paths.run_dir(Container::User), IN_USE, &seen);
        once.join().expect("it ends").0
    });
    assert_eq!(exit, Exit::Ok);
    assert!(Path::new(&used).exists());
}

#[test]
fn a_bound_on_what_is_freed() {
    let pod = Pod::new();
    pod.ready();
    for name in ["a", "b", "c", "d"] {
        pod.daemon.add(name, &[name.as_bytes()[0]; 50_000]);
    }
    let bounds = Bounds { max_freed: Some(60_000), ..Bounds::default() };
    let (exit, out, err) = pod.once(&Wish { bounds, json: true, ..Wish::default() });
    assert_eq!(exit, Exit::Ok, "{err}");
    let summary: GcSummary = serde_json::from_str(&out).expect("JSON");
    assert!((60_000..200_000).contains(&summary.freed_bytes), "{out}");
}
