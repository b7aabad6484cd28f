//! The first start of a builder on the real image, cut off.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use e2e::builder::Builder;
use e2e::nix_files::quick;
use e2e::person::Person;
use e2e::podman;
use e2e::setting::setting;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

crate::scenarios! {
    Podman: [
        killed_seeding_ends_in_a_whole_store,
    ],
}

/// Kills that must fall into a seeding.
const KILLS: u32 = 20;
/// In one builder; after them it is let to its end.
const KILLS_EACH: u32 = 7;
/// Between two kills at most. Seeding the image takes about as long.
const SPAN: Duration = Duration::from_millis(800);
/// Looks for a seeding to kill, after which the builder is not coming up at all.
const LOOKS: u32 = 200;

fn killed_seeding_ends_in_a_whole_store() {
    let wanted =
        std::env::var("TRAMPOLINE_IMAGE_KILL_POINTS").map_or(KILLS, |n| n.parse().expect("a number"));
    let (mut kills, mut builders) = (0, 0);
    while kills < wanted {
        kills += seeded_under_kills(KILLS_EACH.min(wanted - kills));
        builders += 1;
    }
    let said = format!("{kills} kills in the seedings of {builders} builders\n");
    drop(std::io::stderr().write_all(said.as_bytes()));
}

/// Sets a builder up and kills `daemon-init` while it seeds, this often at most; gives how often.
fn seeded_under_kills(most: u32) -> u32 {
    let builder = Builder::new(Person::new(), &[]);
    let engine = setting().engine;
    engine.make_store(builder.name(), &[], "");
    let mark = Path::new(&engine.store_folder(builder.name())).join(".trampoline/mark.json");
    let setup = builder.cli(["setup", "--yes"]).start();
    let mut kills = 0;
    for _ in 0..LOOKS {
        // Not a wait for something: the kill is to fall anywhere.
        std::thread::sleep(podman::moment_within(SPAN));
        if kills == most || seeded(&mark) {
            break;
        }
        if let Some(process) = podman::daemon_process(builder.name()) {
            kill(Pid::from_raw(process), Signal::SIGKILL).expect("it seeds until the mark says so");
            kills += 1;
        }
    }
    setup.output().ok();
    assert_eq!(builder.broken(), "", "after {kills} kills");
    let tree = builder.pushed("after", &[("default.nix", &*quick("t-after-kills", "built"))]);
    tree.cli(["build"]).run().ok();
    kills
}

/// Whether the volume's mark names the image, which it does last of all.
fn seeded(mark: &Path) -> bool {
    let mark: Option<Value> = std::fs::read(mark).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    mark.is_some_and(|mark| mark["image"] != "")
}
