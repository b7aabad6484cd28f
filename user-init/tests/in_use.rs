//! What is in use of the store: found in `/proc`, and told when it is asked for.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use agent::files;
use agent::paths::Paths;
use common::agent_process::World;
use contract::in_use::{IN_USE, InUse, LOOK, Look};
use contract::places::Container;
use user_init::in_use::look;

fn name(letter: char) -> String {
    format!("{}-x", letter.to_string().repeat(32))
}

fn names(letters: &str) -> BTreeSet<String> {
    letters.chars().map(name).collect()
}

/// A `/proc` in which each way to use a path shows another.
fn proc(paths: &Paths, pid: u32) {
    let process = paths.proc.join(pid.to_string());
    fs::create_dir_all(process.join("fd")).unwrap();
    let path = |letter| paths.nix.join("store").join(name(letter)).display().to_string();
    symlink(path('a') + "/bin/x", process.join("exe")).unwrap();
    symlink(path('b'), process.join("cwd")).unwrap();
    symlink(path('c'), process.join("root")).unwrap();
    symlink("socket:[1]", process.join("fd/0")).unwrap();
    symlink(path('d') + "/f (deleted)", process.join("fd/1")).unwrap();
    let maps = format!(
        "7f-80 r-xp 0 fe:0 1   {}/lib/l.so\n80-81 rw-p 0 0:0 0 \n81-82 r--p 0 0:0 0 [vdso]\n",
        path('f')
    );
    fs::write(process.join("maps"), maps).unwrap();
    fs::write(process.join("environ"), format!("A=1\0PATH={}/bin:/bin\0", path('g'))).unwrap();
    fs::write(process.join("cmdline"), format!("python\0{}/bin/script\0", path('h'))).unwrap();
}

#[test]
fn every_way_to_use_a_path_counts() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths { proc: dir.path().join("proc"), ..Paths::scratch(dir.path()) };
    proc(&paths, 7);
    fs::create_dir_all(paths.proc.join("8")).unwrap();
    fs::create_dir_all(paths.proc.join("sys")).unwrap();
    assert_eq!(look(&paths).unwrap(), names("abcdfgh"));
    fs::remove_dir_all(paths.proc.join("7")).unwrap();
    assert!(look(&paths).unwrap().is_empty());
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program in the scratch store that does nothing.
fn program(nix: &Path, letter: char) -> Running {
    let path = nix.join("store").join(name(letter));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::copy("/bin/sleep", &path).unwrap();
    Running(Command::new(&path).arg("infinity").env_clear().stdin(Stdio::null()).spawn().unwrap())
}

/// As the daemon or the maintenance agent asks.
fn ask(world: &World, by: Container) -> InUse {
    let asked = agent::in_use::now().unwrap();
    files::write_json(&world.paths.run_dir(by), LOOK, &Look { life: world.life.clone(), asked }).unwrap();
    let answer = || world.own::<InUse>(IN_USE).filter(|seen| seen.looked >= asked);
    world.until(&world.paths.run_dir(Container::User), || answer().is_some());
    answer().unwrap()
}

#[test]
fn whoever_asks_is_told_what_runs_now() {
    let mut world = World::new();
    world.serve();
    let first = program(&world.paths.nix, 'a');
    // A session alone is no reason to look.
    assert!(world.run(&["session", "--kind", "exec", "--", "true"]).status.success());
    assert_eq!(world.own::<InUse>(IN_USE), None, "nobody has asked");
    assert!(ask(&world, Container::Daemon).names.contains(&name('a')));
    drop(first);
    let _second = program(&world.paths.nix, 'b');
    let seen = ask(&world, Container::Maintenance).names;
    assert!(seen.contains(&name('b')) && !seen.contains(&name('a')), "{seen:?}");
    // What has been answered is not answered again.
    let before = world.own::<InUse>(IN_USE).unwrap();
    assert!(world.run(&["session", "--kind", "exec", "--", "true"]).status.success());
    assert_eq!(world.own::<InUse>(IN_USE).unwrap(), before);
    world.leave();
}

#[test]
fn a_look_costs_little() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::scratch(dir.path());
    let _running: Vec<Running> = ('a'..='d').map(|letter| program(&paths.nix, letter)).collect();
    let (rounds, before) = (50, used());
    for _ in 0..rounds {
        assert!(names("abcd").is_subset(&look(&paths).unwrap()));
    }
    let each = (used() - before) / rounds;
    let processes = agent::proc::processes(&paths.proc).unwrap().len();
    // Measured on a quiet machine, where few run beside these: far below 2 ms.
    let most = 2000 + 400 * i64::try_from(processes).unwrap();
    assert!(each < most, "{each} us for each look among {processes} processes");
}

/// Microseconds of this thread's CPU time.
fn used() -> i64 {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike;
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds()
}
