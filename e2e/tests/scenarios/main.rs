//! End-to-end scenarios on a real engine, driven through `trampoline-cli` alone. `test.sh podman` sets the
//! environment that they need (see `e2e::setting`); without it they are skipped, loudly.

mod attack;
mod builds;
mod cluster;
mod collections;
mod config;
mod damage;
mod disk;
mod faults;
mod features;
mod histories;
mod idle;
mod images;
mod jobs;
mod keeps;
mod keys;
mod people;
mod power;
mod prune;
mod pushes;
mod roots;
mod sandbox;
mod seeding;
mod shared;
mod ssh;
mod stops;
mod story;
mod streams;
mod transfers;
mod tuning;
mod volumes;
mod wakes;

use std::io::Write;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use e2e::engine::Need;
use e2e::{secrets, setting};
use libtest_mimic::{Arguments, Trial};

/// A rule, and what shows that it holds.
struct Scenario {
    name: &'static str,
    run: fn(),
    need: Need,
}

/// A module's scenarios, named after their functions, by what they need.
macro_rules! scenarios {
    ($($need:ident: [$($name:ident),* $(,)?]),* $(,)?) => {
        pub(crate) const SCENARIOS: &[crate::Scenario] = &[$($(crate::Scenario {
            name: concat!(module_path!(), "::", stringify!($name)),
            run: $name,
            need: e2e::engine::Need::$need,
        },)*)*];
    };
}
pub(crate) use scenarios;

/// Seconds that each scenario has taken which passed.
static TOOK: Mutex<Vec<(u64, &str)>> = Mutex::new(Vec::new());
/// So many are named at the end.
const LONGEST: usize = 15;

fn longest() -> String {
    let mut took = TOOK.lock().unwrap_or_else(PoisonError::into_inner);
    took.sort_unstable_by(|a, b| b.cmp(a));
    took.iter().take(LONGEST).map(|(seconds, name)| format!("{seconds:>5} s {name}\n")).collect()
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let setting = setting::read();
    let say = |words: String| drop(std::io::stderr().write_all(words.as_bytes()));
    if let Err(problem) = &setting {
        say(format!(
            "\nSKIPPED, all of them: {problem}. `./test.sh podman` builds client and image and runs them.\n"
        ));
    }
    let all = [
        story::SCENARIOS,
        seeding::SCENARIOS,
        images::SCENARIOS,
        volumes::SCENARIOS,
        builds::SCENARIOS,
        jobs::SCENARIOS,
        stops::SCENARIOS,
        wakes::SCENARIOS,
        power::SCENARIOS,
        prune::SCENARIOS,
        histories::SCENARIOS,
        idle::SCENARIOS,
        keeps::SCENARIOS,
        faults::SCENARIOS,
        features::SCENARIOS,
        pushes::SCENARIOS,
        sandbox::SCENARIOS,
        attack::files::SCENARIOS,
        attack::processes::SCENARIOS,
        attack::daemon::SCENARIOS,
        attack::links::SCENARIOS,
        attack::secrets::SCENARIOS,
        attack::exhaust::SCENARIOS,
        ssh::SCENARIOS,
        transfers::SCENARIOS,
        keys::SCENARIOS,
        streams::SCENARIOS,
        people::SCENARIOS,
        config::SCENARIOS,
        tuning::SCENARIOS,
        damage::SCENARIOS,
        disk::SCENARIOS,
        collections::SCENARIOS,
        roots::SCENARIOS,
        cluster::start::SCENARIOS,
        cluster::life::SCENARIOS,
        cluster::access::SCENARIOS,
        cluster::claims::SCENARIOS,
        cluster::kubeconfig::SCENARIOS,
        cluster::account::SCENARIOS,
        cluster::isolation::SCENARIOS,
        cluster::lab::SCENARIOS,
        cluster::lab::registry::SCENARIOS,
        cluster::lab_userns::SCENARIOS,
        cluster::userns::SCENARIOS,
        cluster::tuning::SCENARIOS,
    ];
    let runs =
        |scenario: &Scenario| setting.as_ref().is_ok_and(|setting| setting.engine.meets(scenario.need));
    let trials = all.into_iter().flatten().map(|scenario| {
        let name = scenario.name.trim_start_matches("scenarios::");
        let run = scenario.run;
        Trial::test(name, move || {
            let begun = Instant::now();
            run();
            TOOK.lock().unwrap_or_else(PoisonError::into_inner).push((begun.elapsed().as_secs(), name));
            Ok(())
        })
        .with_ignored_flag(!runs(scenario))
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if !arguments.list {
        shared::end(conclusion.has_failed());
        say(format!("\nthe longest:\n{}", longest()));
        let told = secrets::told();
        if !told.is_empty() {
            say(format!("\nFAILED: what must stay secret was told:\n{}\n", told.join("\n")));
            return ExitCode::FAILURE;
        }
    }
    conclusion.exit_code()
}
