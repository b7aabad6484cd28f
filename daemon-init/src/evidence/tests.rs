use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use agent::signals::Signals;

use super::*;

/// Nobody's on a machine where tests run.
const USER: u32 = 987_604;

/// Its worker was killed before anybody looked for its lock.
#[test]
fn build_that_nobody_saw_is_counted_and_what_it_left_is_ended() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: needs root");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::scratch(dir.path());
    let folder = build_dir::of(&paths.build);
    for made in [&folder, &paths.run_dir(Container::Daemon), &paths.nix.join("var/nix/userpool")] {
        fs::create_dir_all(made).unwrap();
    }
    let signals = Signals::install().unwrap();
    let mut waiter = Waiter::new(&signals).unwrap();
    let mut evidence = Evidence::watch(&paths, &Life("a".into()), &mut waiter, Size(1 << 30)).unwrap();
    assert_eq!(evidence.look().begun, 0);

    File::create(paths.nix.join("var/nix/userpool").join(USER.to_string())).unwrap();
    fs::create_dir(folder.join("nix-build-x.drv-0")).unwrap();
    let mut left = Command::new("sleep").arg("1000").uid(USER).gid(USER).spawn().unwrap();
    let seen = evidence.look().clone();
    assert_eq!((seen.builds, seen.begun), (0, 1));
    assert!(seen.last_build > 0, "it was work");
    assert_eq!(left.wait().unwrap().signal(), Some(9));
}
