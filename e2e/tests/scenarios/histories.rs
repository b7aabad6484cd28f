//! A few of the histories that the shutdown monitor's model is tried with, lived through by real builders: it never stops while work runs,
//! and always soon after.

use std::time::{Duration, Instant};

use e2e::builder::Builder;
use e2e::nix_files::derivation;
use e2e::process::Live;
use e2e::setting::setting;

crate::scenarios! {
    Any: [work_in_any_order_is_never_cut_short_and_always_comes_to_an_end],
}

/// Seeds, one history each: `E2E_HISTORIES=1,2,3`.
const HISTORIES: &str = "E2E_HISTORIES";
const FEW: &str = "11,23";
const STEPS: u32 = 7;
/// As many builds are prepared.
const BUILDS: u64 = 4;

struct Play {
    builder: Builder,
    random: u64,
    builds: u64,
    /// Nobody may stop it before this.
    until: Instant,
    /// Open, and silent.
    ghosts: Vec<Live>,
    sessions: Vec<Live>,
    crashed: bool,
    told: Vec<String>,
}

impl Play {
    /// From `low` on, `count` different ones.
    fn draw(&mut self, low: u64, count: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        low + self.random % count
    }

    fn busy_for(&mut self, begun: Instant, seconds: u64) {
        self.until = self.until.max(begun + Duration::from_secs(seconds));
    }

    fn step(&mut self, tree: &e2e::checkout::Checkout) {
        let begun = Instant::now();
        let (what, seconds) = (self.draw(0, 7), self.draw(2, 9));
        let builder = &self.builder;
        let told = match what {
            0 | 1 if self.builds < BUILDS => {
                let attribute = format!("b{}", self.builds);
                tree.cli(["build", "--detach", &attribute]).run().ok();
                self.builds += 1;
                attribute
            }
            2 => {
                builder.cli(["hold", &format!("{seconds}s")]).run().ok();
                self.busy_for(begun, seconds);
                format!("hold {seconds}")
            }
            3 => {
                let mut ghost =
                    builder.cli(["shell", "--", "sh", "-c", "echo open; sleep 600"]).within(300).start();
                ghost.line("open");
                self.ghosts.push(ghost);
                "ghost".into()
            }
            4 => {
                let line = format!("echo at work; timeout {seconds} sh -c 'while :; do :; done'; echo whole");
                let mut session = builder.cli(["shell", "--", "sh", "-c", &line]).within(300).start();
                session.line("at work");
                self.sessions.push(session);
                format!("session {seconds}")
            }
            // Once: a cluster waits longer and longer before it starts one again.
            5 if !self.crashed && builder.shell("true").code == 0 => {
                self.crashed = true;
                setting().engine.crash(builder.name(), "shutdown-monitor");
                "the monitor is killed".into()
            }
            6 => {
                builder.wait_stopped(240);
                assert!(Instant::now() >= self.until, "held, and stopped: {:?}", self.told);
                "it stops".into()
            }
            _ => {
                for asks in ["status", "list", "jobs"] {
                    let _ = builder.cli([asks]).run();
                }
                "asked".into()
            }
        };
        self.told.push(told);
    }
}

fn play(seed: u64) {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"6s\"")]);
    let builds: String = (0..BUILDS)
        .map(|number| {
            let script = format!("sleep {}; echo built > $out", 3 + 4 * number);
            format!("b{number} = {};\n", derivation(&format!("t-history-{seed}-{number}"), &script))
        })
        .collect();
    let tree = builder.pushed("history", &[("default.nix", &*format!("{{ {builds} }}"))]);
    let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut play = Play {
        builder,
        random,
        builds: 0,
        until: Instant::now(),
        ghosts: Vec::new(),
        sessions: Vec::new(),
        crashed: false,
        told: Vec::new(),
    };
    for _ in 0..STEPS {
        play.step(&tree);
    }
    // Sessions first, as theirs is the end of a process of ours.
    for session in std::mem::take(&mut play.sessions) {
        let session = session.output();
        assert!(session.code == 0 && session.stdout.contains("whole"), "{:?}: {session}", play.told);
    }
    play.builder.wait_stopped(240);
    assert!(Instant::now() >= play.until, "held, and stopped: {:?}", play.told);
    drop(std::mem::take(&mut play.ghosts));
    let status = play.builder.status();
    assert!(
        status["reason"].as_str().is_some_and(|reason| reason.contains("idle")),
        "{:?}: {status}",
        play.told
    );
    play.builder.shell("true").ok();
    let jobs = play.builder.cli(["jobs", "--json"]).run().ok().json();
    let states: Vec<&str> =
        jobs.as_array().into_iter().flatten().filter_map(|job| job["state"].as_str()).collect();
    assert_eq!(states.len() as u64, play.builds, "{:?}: {jobs}", play.told);
    assert!(states.iter().all(|state| *state == "finished"), "{:?}: {jobs}", play.told);
}

fn work_in_any_order_is_never_cut_short_and_always_comes_to_an_end() {
    let seeds = std::env::var(HISTORIES).unwrap_or_else(|_| FEW.to_owned());
    let seeds: Vec<u64> = seeds.split(',').map(|seed| seed.parse().expect("a number")).collect();
    // They wait more than they work.
    std::thread::scope(|scope| {
        for seed in seeds {
            scope.spawn(move || play(seed));
        }
    });
}
