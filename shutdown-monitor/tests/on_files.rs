//! The whole agent on real files in a scratch folder; the test plays the other containers.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use agent::files::{self, Living};
use agent::paths::Paths;
use agent::signals::Signals;
use agent::wait::{Waiter, Wake};
use agent::{life, proc};
use contract::exit::Exit;
use contract::handshake::{
    AgentStatus, DaemonActivity, IdleMemory, IdleStatus, Life, Phase, Ready, StopAck, StopEnd, StopPhase,
    StopRequest, UserActivity, file,
};
use contract::places::Container;
use serde::de::DeserializeOwned;

/// Plays the rest of the pod.
struct Rest<'a> {
    paths: &'a Paths,
    waiter: Waiter<'a>,
}

impl Rest<'_> {
    /// Waits until the monitor has published what is looked for.
    fn until<T: DeserializeOwned + Living>(&mut self, life: &Life, name: &str, is: impl Fn(&T) -> bool) -> T {
        let deadline = Instant::now() + Duration::from_secs(20);
        let path = self.paths.run_dir(Container::ShutdownMonitor).join(name);
        loop {
            if let Some(found) =
                files::read_live::<T>(&path, life).expect("what it writes can be read").filter(&is)
            {
                return found;
            }
            let wake = self.waiter.wait(Some(deadline)).expect("waiting works");
            assert_ne!(wake, Wake::Deadline, "{name} does not come");
        }
    }
}

fn write<T: serde::Serialize>(dir: &Path, name: &str, value: &T) {
    files::write_json(dir, name, value).expect("the folder is there");
}

#[test]
fn it_stops_an_idle_builder_and_ignores_another_life() {
    let root = tempfile::tempdir().expect("a scratch folder");
    let paths = Paths::scratch(root.path());
    let (daemon, user) = (paths.run_dir(Container::Daemon), paths.run_dir(Container::User));
    let config = paths.config.parent().expect("it is in a folder");
    for dir in [&paths.run_dir(Container::ShutdownMonitor), config] {
        std::fs::create_dir_all(dir).expect("scratch");
    }
    std::fs::write(&paths.config, "[shutdown]\nidle-timeout = \"never\"\n").expect("scratch");
    let life = life::current(&paths).expect("/proc is there");
    let other = Life("boot:0".into());
    // It was killed in this life, and knows how long it was idle.
    let monotonic = agent::in_use::now().expect("the clock");
    let memory = Some(IdleMemory { at: monotonic, last_build: 0 });
    let former = IdleStatus {
        life: life.clone(),
        last_activity: 5,
        source: "before".into(),
        stops_at: Some(6),
        keeps: vec![],
        soon: false,
        memory,
    };
    write(&paths.run_dir(Container::ShutdownMonitor), file::IDLE, &former);
    // A final request of another life must not end this one.
    let stale = StopRequest {
        life: other.clone(),
        generation: 9,
        phase: StopPhase::Final,
        end: StopEnd::Leave,
        reason: String::new(),
        last_activity: 0,
    };
    write(&paths.run_dir(Container::ShutdownMonitor), file::STOP, &stale);

    let signals = Signals::install().expect("handlers");
    let mut waiter = Waiter::new(&signals).expect("inotify");
    waiter.watch_dir(&paths.run_dir(Container::ShutdownMonitor)).expect("it is there");
    let mut rest = Rest { paths: &paths, waiter };
    let (ended, end) = mpsc::channel();
    let of_monitor = paths.clone();
    std::thread::spawn(move || ended.send(shutdown_monitor::serve::serve(&of_monitor)));
    rest.until::<IdleStatus>(&life, file::IDLE, |i| i.source == "waiting for the daemon");

    // Folders and files come later than the monitor.
    std::fs::create_dir(&daemon).expect("scratch");
    std::fs::create_dir(&user).expect("scratch");
    let pid = i32::try_from(std::process::id()).expect("a pid");
    let start_time = proc::start_time(&paths.proc, pid).expect("/proc").expect("we live");
    let (store_id, nix_version, image) = (String::new(), String::new(), String::new());
    write(
        &daemon,
        file::READY,
        &Ready { life: life.clone(), pid, start_time, store_id, nix_version, image, isolation: None, at: 0 },
    );
    write(
        &daemon,
        file::ACTIVITY,
        &DaemonActivity { life: life.clone(), builds: 0, begun: 0, last_build: 0 },
    );
    // Jobs of another life hold nothing up, and say nothing either.
    let mut activity = UserActivity { jobs: vec!["1".into()], ..UserActivity::quiet(other) };
    write(&user, file::ACTIVITY, &activity);
    rest.until::<IdleStatus>(&life, file::IDLE, |i| i.source == "start" && i.stops_at.is_none());
    (activity.life, activity.jobs) = (life.clone(), vec![]);
    write(&user, file::ACTIVITY, &activity);
    // user-init, before it serves and then.
    let serving = |phase| AgentStatus {
        life: life.clone(),
        agent: Container::User.agent().into(),
        version: String::new(),
        phase,
        message: String::new(),
        exit: None,
        progress: None,
        config: String::new(),
        config_note: None,
        at: 0,
    };
    write(&user, file::STATUS, &serving(Phase::Starting));
    write(&user, file::STATUS, &serving(Phase::Running));

    // The timeout is live.
    files::write_bytes(config, "trampoline.toml", 0o644, b"[shutdown]\nidle-timeout = \"1s\"\n")
        .expect("scratch");
    let ask = rest.until::<StopRequest>(&life, file::STOP, |s| s.phase == StopPhase::Ask);
    assert_eq!((ask.generation, ask.reason.as_str()), (1, "idle for 1s"));
    let ack = StopAck { life: life.clone(), generation: 1, work: 0 };
    write(&daemon, file::ACK, &ack);
    write(&user, file::ACK, &StopAck { work: 1, ..ack.clone() });
    rest.until::<StopRequest>(&life, file::STOP, |s| s.phase == StopPhase::Open);

    let ask = rest.until::<StopRequest>(&life, file::STOP, |s| s.phase == StopPhase::Ask);
    assert_eq!(ask.generation, 2);
    let ack = StopAck { generation: 2, ..ack };
    write(&daemon, file::ACK, &ack);
    write(&user, file::ACK, &ack);
    assert_eq!(end.recv_timeout(Duration::from_secs(20)), Ok(Exit::Ok));
    let last = rest.until::<StopRequest>(&life, file::STOP, |_| true);
    assert_eq!(last.phase, StopPhase::Final);
    // Started again in the same life it leaves at once.
    assert_eq!(shutdown_monitor::serve::serve(&paths), Exit::Ok);
}
