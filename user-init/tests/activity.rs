//! What open sessions do, by real processes; and what keeps the builder, and is said before it stops.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use agent::files;
use common::agent_process::{World, ended_in_time, scratch_program};
use contract::handshake::{IdleStatus, StopAck, StopPhase, UserActivity, file};
use contract::hold::Wish;
use contract::places::Container;

/// Sessions are looked at four times a second.
fn serving() -> World {
    let mut world = World::new();
    fs::write(&world.paths.config, "[shutdown]\nidle-timeout = \"2s\"\nprotocol-timeout = \"1s\"\n").unwrap();
    world.serve();
    world
}

fn open(world: &World, line: &str) -> (Child, ChildStdin) {
    let mut words = world.command(&["session", "--", "bash", "-c", line]);
    let mut child = words.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let stdin = child.stdin.take().unwrap();
    world.until_activity(|activity| !activity.sessions.is_empty());
    (child, stdin)
}

fn doing(activity: &UserActivity) -> Option<&str> {
    activity.sessions.first().and_then(|session| session.doing.as_deref())
}

fn asked(world: &World, generation: u64) -> u32 {
    world.stop(generation, StopPhase::Ask);
    let ack = || world.own::<StopAck>(file::ACK).filter(|ack| ack.generation == generation);
    world.until(&world.paths.run_dir(Container::User), || ack().is_some());
    world.stop(generation, StopPhase::Open);
    ack().unwrap().work
}

#[test]
fn an_open_session_is_silent_until_its_processes_work() {
    let world = serving();
    // Neither goes on without its session.
    for (line, word) in [
        ("read x; while kill -0 $PPID; do :; done 2>&-", "cpu"),
        ("read x; while kill -0 $PPID; do dd if=/dev/zero of=/dev/null bs=1M count=1000; done 2>&-", "bytes"),
    ] {
        let (mut session, mut keys) = open(&world, line);
        world.until_activity(|activity| doing(activity) == Some("begins"));
        world.until_activity(|activity| doing(activity).is_none());
        let before = world.activity().last.unwrap();
        assert_eq!(asked(&world, before.at), 0, "open and silent is no work");
        keys.write_all(b"\n").unwrap();
        world.until_activity(|activity| {
            doing(activity).is_some_and(|doing| word == doing || doing == "bytes")
        });
        assert_eq!(asked(&world, before.at + 1), 1, "{word}");
        session.kill().unwrap();
        ended_in_time(&mut session);
        world.until_activity(|activity| activity.sessions.is_empty());
        let after = world.activity().last.unwrap();
        assert!(after.at > before.at && after.source.starts_with("session (exec): "), "{after:?}");
        drop(keys);
    }
}

#[test]
fn the_end_of_a_silent_session_is_no_work() {
    let world = serving();
    let (mut session, keys) = open(&world, "read x");
    world.until_activity(|activity| doing(activity).is_none());
    let before = world.activity().last.unwrap();
    drop(keys);
    ended_in_time(&mut session);
    world.until_activity(|activity| activity.sessions.is_empty());
    assert_eq!(world.activity().last.unwrap(), before);
}

#[test]
fn the_silence_of_nix_counts_for_a_while() {
    let world = serving();
    // As sshd hands it over; what it is called with does not matter here.
    let mut words = world.command(&["session", "--kind", "ssh"]);
    let bin = world.paths.default_profile().join("bin");
    fs::write(bin.join("nix-daemon"), "#!/bin/sh\nread x\n").unwrap();
    fs::set_permissions(bin.join("nix-daemon"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    words.env("SSH_ORIGINAL_COMMAND", "nix-daemon --stdio");
    let mut session = words.stdin(Stdio::piped()).spawn().unwrap();
    world.until_activity(|activity| doing(activity) == Some("protocol"));
    world.until_activity(|activity| !activity.sessions.is_empty() && doing(activity).is_none());
    drop(session.stdin.take());
    ended_in_time(&mut session);
}

#[test]
fn who_has_a_terminal_is_told_before_it_stops() {
    let world = serving();
    let line = format!(
        "{} {} 2222 session -- sh -c 'echo begun; read x; echo read $x'",
        scratch_program().display(),
        world.root().display()
    );
    let mut script = Command::new("script");
    script.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut script = script.spawn().unwrap();
    let mut screen = BufReader::new(script.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(screen.next().unwrap().trim(), "begun");
    // One without a terminal gets nothing into its output.
    let mut plain = world.command(&["session", "--", "sh", "-c", "read x"]);
    let mut plain = plain.stdin(Stdio::piped()).spawn().unwrap();
    world.until_activity(|activity| activity.sessions.len() == 2);
    let idle = IdleStatus {
        life: world.life.clone(),
        last_activity: 0,
        source: "start".into(),
        stops_at: Some(u64::MAX),
        keeps: vec![],
        soon: true,
        memory: None,
    };
    let dir = world.paths.run_dir(Container::ShutdownMonitor);
    files::write_json(&dir, file::IDLE, &idle).unwrap();
    let told = screen.next().unwrap();
    assert!(told.contains("the builder stops in"), "{told}");
    // Once, however often the monitor writes.
    files::write_json(&dir, file::IDLE, &IdleStatus { source: "again".into(), ..idle }).unwrap();
    script.stdin.take().unwrap().write_all(b"on\n").unwrap();
    let rest: Vec<String> = screen.collect();
    assert!(rest.iter().any(|line| line.contains("read on")), "{rest:?}");
    assert!(!rest.iter().any(|line| line.contains("the builder stops")), "{rest:?}");
    ended_in_time(&mut script);
    drop(plain.stdin.take());
    let plain = plain.wait_with_output().unwrap();
    assert!(plain.stderr.is_empty(), "{}", String::from_utf8_lossy(&plain.stderr));
}

#[test]
fn a_hold_is_told_kept_and_released() {
    let mut world = serving();
    let set = |world: &World, seconds: u64| {
        let wish = Wish { seconds, reason: "a demo".into(), by: "me@here".into() };
        world.run_with(&["hold", "set"], &serde_json::to_vec(&wish).unwrap()).status.code()
    };
    assert_eq!(set(&world, 0), Some(64));
    assert_eq!(set(&world, 3600), Some(0));
    let hold = world.activity().hold.unwrap();
    assert_eq!((hold.reason.as_str(), hold.by.as_str()), ("a demo", "me@here"));
    world.leave();
    world.serve();
    assert_eq!(world.activity().hold, Some(hold));
    assert_eq!(world.run(&["hold", "release"]).status.code(), Some(0));
    assert_eq!(world.activity().hold, None);
    assert_eq!(world.run_with(&["hold", "set"], b"nonsense").status.code(), Some(64));
}
