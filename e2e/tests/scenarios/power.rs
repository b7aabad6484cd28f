//! Power cuts under a builder: what its disk holds at that moment is what counts.

use std::fs::File;

use e2e::builder::Builder;
use e2e::disk::Disk;
use e2e::nix_files::derivation;
use e2e::person::Person;
use e2e::setting::setting;
use e2e::volume::bind;

crate::scenarios! {
    Podman: [
        strict_paths_are_on_disk_before_they_count,
    ],
}

/// Without it the disk may have taken everything by chance.
const TRIES: u32 = 5;

fn strict_paths_are_on_disk_before_they_count() {
    assert!(damaged_after_cuts("checkpoints", TRIES), "else the other half shows nothing");
    assert!(!damaged_after_cuts("strict", TRIES), "what counts is on disk");
}

/// Whether a path that was built just before one of as many cuts is damaged, though it is valid.
fn damaged_after_cuts(durability: &str, cuts: u32) -> bool {
    let disk = Disk::new();
    let engine = setting().engine;
    let options =
        [("daemon.durability", &*format!("{durability:?}")), ("daemon.checkpoint-interval", "\"1d\"")];
    let builder = Builder::new(Person::new(), &options);
    engine.make_store(builder.name(), &bind(&disk.volume()), "");
    builder.cli(["setup"]).run().ok();
    let damaged = (0..cuts).any(|n| {
        let line = format!("i=0; while [ $i -lt 5000 ]; do echo {n} $i; i=$((i + 1)); done >$out");
        let tree = builder.pushed("cut", &[("default.nix", &*derivation(&format!("t-cut-{n}"), &line))]);
        let path = tree.cli(["build"]).run().ok();
        // Nix lets its log of what is registered wait in memory; it may be written at any moment.
        let log = File::open(disk.volume().join("var/nix/db/db.sqlite-wal")).and_then(|log| log.sync_all());
        log.expect("the log of the database");
        let cut = disk.cut();
        let after = format!("{}-after", builder.name());
        engine.make_store(&after, &cut.options(), "");
        let store = "export HOME=/tmp; nix-store --store 'local?root=/volume'";
        let check = format!(
            "{store} --check-validity {path} && {store} --verify --check-contents",
            path = path.text()
        );
        let checked = engine.with_store(&after, &check);
        engine.remove_store(&after);
        assert!(!checked.stderr.contains("is not valid"), "it was registered: {checked}");
        checked.stderr.contains("was modified")
    });
    builder.clean().ok();
    engine.remove_store(builder.name());
    damaged
}
