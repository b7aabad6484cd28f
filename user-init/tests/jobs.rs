//! Builds as children of `serve`, with a stand-in for `nix` that does as its last word says.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use common::agent_process::{World, ended_in_time, open_gate};
use common::tree::sample;
use contract::handshake::{Drain, file};
use contract::job::{BuildRequest, FollowEvent, JobEnd, JobInfo, JobStarted, PushAnswer};
use contract::places::Container;
use nix::sys::signal::Signal;

fn world() -> World {
    let mut world = World::new();
    world.serve();
    push(&world, "");
    world
}

fn push(world: &World, more: &str) -> u64 {
    let tree = sample().file("more", more);
    // All else is there by then.
    let later = || [tree.beginning("p"), tree.frames(&[tree.index("more")])].concat();
    let bytes = if more.is_empty() { tree.bytes("p") } else { later() };
    match world.run_json(&["receive"], &bytes) {
        PushAnswer::Done(done) => done.generation,
        PushAnswer::Send { .. } => panic!("it ended early"),
    }
}

fn request(attr: &str) -> Vec<u8> {
    let request = BuildRequest {
        project: "p".into(),
        generation: None,
        file: None,
        attrs: vec![attr.into()],
        nix_args: vec![],
        from: "me@here".into(),
    };
    serde_json::to_vec(&request).unwrap()
}

fn start(world: &World, attr: &str) -> JobStarted {
    world.run_json(&["job", "start"], &request(attr))
}

/// The log and the end, as a follower sees them.
fn follow(world: &World, id: &str, from: &str) -> (Vec<String>, u64, JobEnd) {
    let output = world.run(&["job", "follow", id, "--from", from]);
    let (mut all, mut at) = (Vec::new(), from.parse().unwrap());
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        match serde_json::from_str(line).unwrap() {
            FollowEvent::Log { lines, next } => {
                all.extend(lines);
                at = next;
            }
            FollowEvent::End(end) => return (all, at, end),
        }
    }
    panic!("no end: {}", String::from_utf8_lossy(&output.stderr));
}

/// A follower that has seen the first line.
fn follower(world: &World, id: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = world.command(&["job", "follow", id]).stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    assert!(line.contains("begins in"), "{line}");
    (child, out)
}

fn link(world: &World, generation: u64, name: &str) -> Option<String> {
    let path = world.paths.projects().join(format!("p/{generation:06}/{name}"));
    fs::read_link(path).ok().map(|t| t.display().to_string())
}

#[test]
fn a_build_succeeds_and_its_results_are_linked() {
    let world = world();
    let job = start(&world, "ok");
    assert_eq!(job.dir, world.paths.projects().join("p/000001").display().to_string());
    let (log, next, end) = follow(&world, &job.id, "0");
    assert_eq!(log, [format!("@nix begins in {} for daemon", job.dir)]);
    assert_eq!(
        end,
        JobEnd { code: 0, cancelled: false, note: None, outputs: vec!["/nix/store/aaa-ok".into()] }
    );
    assert_eq!(follow(&world, &job.id, &next.to_string()).0, Vec::<String>::new());
    assert_eq!(link(&world, 1, "result").as_deref(), Some("/nix/store/aaa-ok"));
    assert_eq!(link(&world, 1, "result-dev").as_deref(), Some("/nix/store/aaa-ok-dev"));
    assert!(
        fs::read_link(world.paths.jobs().join(&job.id).join("result")).is_ok(),
        "the root stays with the job"
    );

    // Not seen by the next evaluation, there again behind it, and in the next tree.
    let job = start(&world, "links");
    assert_eq!(follow(&world, &job.id, "0").2.code, 1);
    let seen = fs::read_to_string(world.paths.jobs().join(&job.id).join("out")).unwrap();
    assert!(seen.contains("default.nix") && !seen.contains("result"), "{seen}");
    assert!(link(&world, 1, "result").is_some());
    assert_eq!(push(&world, "changed"), 2);
    assert!(link(&world, 2, "result-dev").is_some());
    let list: Vec<JobInfo> = world.run_json(&["job", "list"], b"");
    assert_eq!(list.iter().map(|j| j.end.as_ref().unwrap().code).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn starting_and_following_is_one_call() {
    let world = world();
    // The stream stays open, as that of a client who must not close it.
    let mut child = world.command(&["job", "start", "--follow"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&request("ok")).unwrap();
    stdin.write_all(b"\n").unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let job: JobStarted = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert_eq!((job.generation, job.current), (1, None));
    let events: Vec<FollowEvent> = lines.map(|line| serde_json::from_str(&line).unwrap()).collect();
    assert!(matches!(&events[0], FollowEvent::Log { lines, .. } if lines[0].contains("begins in")));
    assert!(matches!(events.last(), Some(FollowEvent::End(end)) if end.code == 0), "{events:?}");
    assert_eq!(ended_in_time(&mut child).code(), Some(0));

    // Who builds what is not current any more hears what is.
    push(&world, "changed");
    let mut old: BuildRequest = serde_json::from_slice(&request("ok")).unwrap();
    old.generation = Some(1);
    let job: JobStarted = world.run_json(&["job", "start"], &serde_json::to_vec(&old).unwrap());
    assert_eq!((job.generation, job.current.map(|current| current.generation)), (1, Some(2)));
}

#[test]
fn without_a_daemon_nothing_is_started() {
    let world = world();
    fs::remove_file(world.paths.run_dir(Container::Daemon).join(file::READY)).unwrap();
    let output = world.run_with(&["job", "start"], &request("ok"));
    assert_eq!(output.status.code(), Some(i32::from(contract::exit::Exit::Stopping.code())), "{output:?}");
    assert_eq!(world.run_json::<Vec<JobInfo>>(&["job", "list"], b""), []);
}

#[test]
fn a_failed_build_has_the_code_of_nix_and_its_whole_log() {
    let world = world();
    let job = start(&world, "fail");
    let (log, _, end) = follow(&world, &job.id, "0");
    assert_eq!(log[1..], ["no newline at the end", "last words"]);
    assert_eq!((end.code, end.cancelled, end.note), (102, false, None));
}

#[test]
fn what_cannot_be_built_is_refused_without_a_job() {
    let world = world();
    let refused = |change: fn(&mut BuildRequest), says: &str| {
        let mut request: BuildRequest = serde_json::from_slice(&request("ok")).unwrap();
        change(&mut request);
        let output = world.run_with(&["job", "start"], &serde_json::to_vec(&request).unwrap());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.contains(says), "{said}");
    };
    refused(|r| r.project = "q".into(), "nothing has been pushed");
    refused(|r| r.generation = Some(9), "generation 9");
    refused(|r| r.file = Some("hello.nix".into()), "no \"hello.nix\"");
    assert_eq!(world.run_with(&["job", "start"], b"{}").status.code(), Some(64));
    assert_eq!(world.run(&["job", "follow", "../p"]).status.code(), Some(64));
    assert_eq!(world.run(&["job", "cancel", "1-1"]).status.code(), Some(64));
    assert_eq!(world.run_json::<Vec<JobInfo>>(&["job", "list"], b""), []);
}

#[test]
fn a_build_outlives_whoever_asked_and_whoever_follows() {
    let world = world();
    let gate = world.gate("gate");
    let job = start(&world, "gate");
    let (mut child, out) = follower(&world, &job.id);
    assert_eq!(world.activity().jobs, std::slice::from_ref(&job.id));
    child.kill().unwrap();
    drop(out);
    child.wait().unwrap();
    // A push meanwhile does not touch its tree.
    push(&world, "other");
    let (second, mut out) = follower(&world, &job.id);
    open_gate(&gate, "through");
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut out, &mut rest).unwrap();
    let events: Vec<FollowEvent> = rest.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert!(matches!(&events[0], FollowEvent::Log { lines, .. } if lines == &["@nix through"]), "{events:?}");
    assert!(matches!(&events[1], FollowEvent::End(end) if end.code == 0), "{events:?}");
    drop(second);
    world.until_activity(|a| a.jobs.is_empty());
}

#[test]
fn a_follower_ends_with_its_listener() {
    let world = world();
    world.gate("gate");
    let job = start(&world, "gate");
    let (mut child, out) = follower(&world, &job.id);
    drop(out);
    assert_eq!(ended_in_time(&mut child).code(), Some(74));
    world.run(&["job", "cancel", &job.id]);
}

#[test]
fn a_cancelled_build_says_so() {
    let world = world();
    world.gate("gate");
    let job = start(&world, "gate");
    let (child, _out) = follower(&world, &job.id);
    assert_eq!(world.run(&["job", "cancel", &job.id]).status.code(), Some(0));
    let end = follow(&world, &job.id, "0").2;
    assert!(end.cancelled, "{end:?}");
    assert_eq!(world.run(&["job", "cancel", &job.id]).status.code(), Some(0), "once more is no mistake");
    drop(child);
}

#[test]
fn jobs_that_were_cut_short_say_why() {
    let mut world = world();
    world.gate("gate");
    let job = start(&world, "gate");
    let (_child, _out) = follower(&world, &job.id);
    world.signal(Signal::SIGTERM);
    world.until_phase(contract::handshake::Phase::Draining);
    let drain = Drain { life: world.life.clone(), drained: true, builds: 0, deadline: 0 };
    agent::files::write_json(&world.paths.run_dir(Container::Daemon), file::DRAIN, &drain).unwrap();
    assert_eq!(world.ended(), 0);
    let end = follow(&world, &job.id, "0").2;
    assert!(end.note.as_ref().is_some_and(|n| n.contains("the daemon has stopped")), "{end:?}");
    assert_ne!(end.code, 0);
}

#[test]
fn a_job_that_ends_within_the_grace_is_whole() {
    let mut world = world();
    let gate = world.gate("gate");
    let job = start(&world, "gate");
    let (_child, _out) = follower(&world, &job.id);
    world.signal(Signal::SIGTERM);
    world.until_phase(contract::handshake::Phase::Draining);
    open_gate(&gate, "through");
    assert_eq!(world.ended(), 0);
    assert_eq!(
        follow(&world, &job.id, "0").2,
        JobEnd { code: 0, cancelled: false, note: None, outputs: vec![] }
    );
}

#[test]
fn a_job_whose_end_nobody_saw_is_not_running() {
    let mut world = world();
    world.gate("gate");
    let job = start(&world, "gate");
    let (_child, _out) = follower(&world, &job.id);
    world.signal(Signal::SIGKILL);
    world.ended();
    world.serve();
    let end = follow(&world, &job.id, "0").2;
    assert_eq!((end.code, end.note.as_deref()), (137, Some("the builder ended while it ran")));
    assert_eq!(world.activity().jobs, Vec::<String>::new());
    open_gate(&world.paths.home.join("gate"), "the orphan may go");
}

#[test]
fn old_jobs_and_trees_go_but_the_last_result_stays() {
    let mut world = World::new();
    fs::write(&world.paths.config, "[user]\nkeep-jobs = 2\nkeep-generations = 2\n").unwrap();
    world.serve();
    push(&world, "");
    let good = start(&world, "ok");
    follow(&world, &good.id, "0");
    for _ in 0..4 {
        let job = start(&world, "fail");
        follow(&world, &job.id, "0");
    }
    let jobs = world.paths.jobs();
    let count = || fs::read_dir(&jobs).unwrap().count();
    assert_eq!(count(), 5, "what has just ended may still be followed");
    let hour = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    for job in fs::read_dir(&jobs).unwrap() {
        let end = fs::File::options().write(true).open(job.unwrap().path().join("exit.json")).unwrap();
        end.set_modified(hour).unwrap();
    }
    let last = start(&world, "fail");
    follow(&world, &last.id, "0");
    world.until(&jobs, || count() == 3);
    assert!(jobs.join(&last.id).exists());
    assert!(jobs.join(&good.id).join("result").symlink_metadata().is_ok());
    for n in 0..4 {
        push(&world, &n.to_string());
    }
    let project = world.paths.projects().join("p");
    world.until(&project, || !project.join("000003").exists() && project.join("000004").exists());
}
