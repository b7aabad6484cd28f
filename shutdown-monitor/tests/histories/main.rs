//! Generated histories of a builder: builds, people, ghosts, holds, clocks that are set, agents that are killed at any point, an API
//! server that fails, in any order. The whole monitor but for its files runs through each of them, and two rules must hold: it never
//! stops a builder while work runs or before it was idle for long enough, and it stops it soon after that.
//!
//! `TRAMPOLINE_HISTORIES=N` plays N of them, `TRAMPOLINE_HISTORY=SEED` one, with all that happened.

mod world;

use contract::handshake::{Life, StopEnd};
use shutdown_monitor::watch::{Ended, watch};
use world::World;

/// Some seconds in a debug build.
const HISTORIES: u64 = 10_000;

/// What a history came to, for the sums that show that histories are not all alike.
#[derive(Debug, Default, Clone, Copy)]
struct Sums {
    stops: u64,
    reopened: u64,
    killed: u64,
    with_work: u64,
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn play(runtime: &tokio::runtime::Runtime, seed: u64, sums: &mut Sums) {
    let end = if seed % 2 == 0 { StopEnd::Leave } else { StopEnd::AwaitSignal };
    let mut world = World::new(seed, end);
    let life = Life("boot:1".into());
    // A monitor that is killed is started again.
    loop {
        let ended = runtime.block_on(watch(&mut world, &life));
        if world.is_over() {
            break;
        }
        match ended {
            Ok(Ended::Stopped) => world.fail("it left a builder that nobody has stopped"),
            // Killed while it waited, or before it had written what it wanted to.
            Ok(Ended::Asked) | Err(_) => sums.killed += 1,
        }
    }
    sums.stops += 1;
    sums.reopened += world.reopened;
    sums.with_work += u64::from(world.worked);
}

#[test]
fn never_with_work_and_always_without() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut sums = Sums::default();
    if let Some(seed) = number("TRAMPOLINE_HISTORY") {
        play(&runtime, seed, &mut sums);
        return;
    }
    let many = number("TRAMPOLINE_HISTORIES");
    // The same each time, unless somebody asks for a number of them.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let (many, first) = many.map_or((HISTORIES, 0), |many| (many, now.as_secs() << 20));
    for seed in first..first + many {
        play(&runtime, seed, &mut sums);
    }
    assert_eq!(sums.stops, many);
    // Generated histories that are all alike show nothing.
    for (what, sum) in [("reopened", sums.reopened), ("killed", sums.killed), ("with work", sums.with_work)] {
        assert!(sum > many / 4, "{what}: {sum} in {many}");
    }
}
