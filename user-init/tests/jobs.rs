//! Builds as children of `serve`, with a stand-in for `nix` that does as its last word says.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Stdio};

use common::agent_process::{World, ended_in_time, open_gate};
use common::tree::sample;
use contract::exit::Exit;
use contract::handshake::{Drain, file};
use contract::job::{BuildRequest, FollowEvent, JobEnd, JobInfo, JobStarted, JobState, PushAnswer};
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
    let begin = from.parse().unwrap();
    let (bytes, end) = told(&output.stdout, begin);
    let lines = String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect();
    let end = end.unwrap_or_else(|| panic!("no end: {}", String::from_utf8_lossy(&output.stderr)));
    (lines, begin + bytes.len() as u64, end)
}

/// The bytes that events hold, and the job's end, if they tell it. A last event that was cut off is none.
fn told(events: &[u8], mut at: u64) -> (Vec<u8>, Option<JobEnd>) {
    let mut all = Vec::new();
    for line in events.split_inclusive(|b| *b == b'\n').filter_map(|line| line.strip_suffix(b"\n")) {
        let (bytes, next) = match serde_json::from_slice(line).unwrap() {
            FollowEvent::Log { text, next } => (text.into_bytes(), next),
            FollowEvent::Bytes { base64, next } => (contract::base64::decode(&base64).unwrap(), next),
            FollowEvent::SoFar => return (all, None),
            FollowEvent::End(end) => return (all, Some(end)),
        };
        at += bytes.len() as u64;
        assert_eq!(at, next, "each event says where it ends");
        all.extend(bytes);
    }
    (all, None)
}

fn ended(code: i32, outputs: &[&str]) -> JobEnd {
    let outputs = outputs.iter().map(ToString::to_string).collect();
    JobEnd { code, cancelled: false, interrupted: false, note: None, outputs }
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
    assert_eq!((job.id.as_str(), end), ("1", ended(0, &["/nix/store/aaa-ok"])));
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
    assert!(matches!(&events[0], FollowEvent::Log { text, .. } if text.contains("begins in")));
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
    assert_eq!(output.status.code(), Some(i32::from(Exit::Stopping.code())), "{output:?}");
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
    assert!(matches!(&events[0], FollowEvent::Log { text, .. } if text == "@nix through\n"), "{events:?}");
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
    assert_eq!(end.state(), JobState::Cancelled, "{end:?}");
    let again = world.run_json::<FollowEvent>(&["job", "cancel", &job.id, "--wait"], b"");
    assert_eq!(again, FollowEvent::End(end), "once more is no mistake");
    let none = world.run(&["job", "cancel", "7"]);
    let said = String::from_utf8_lossy(&none.stderr).into_owned();
    assert!(none.status.code() == Some(64) && said.contains("its newest are 1"), "{said}");
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
    assert!(end.code != 0 && end.interrupted && end.exit_code() == Exit::Stopping.code(), "{end:?}");
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
    assert_eq!(follow(&world, &job.id, "0").2, ended(0, &[]));
}

#[test]
fn a_job_whose_end_nobody_saw_is_not_running() {
    let mut world = world();
    world.gate("gate");
    let job = start(&world, "gate");
    let state = |world: &World| {
        let list: Vec<JobInfo> = world.run_json(&["job", "list"], b"");
        (list[0].id.clone(), list[0].state())
    };
    assert_eq!(state(&world), (job.id.clone(), JobState::Running));
    let (_child, _out) = follower(&world, &job.id);
    world.signal(Signal::SIGKILL);
    world.ended();
    // Nobody has written that yet.
    assert_eq!(state(&world), (job.id.clone(), JobState::Interrupted));
    assert_eq!(follow(&world, &job.id, "0").2.state(), JobState::Interrupted);
    world.serve();
    let end = follow(&world, &job.id, "0").2;
    assert_eq!(end.note.as_deref(), Some("the builder ended while it ran"));
    assert_eq!((end.state(), end.exit_code()), (JobState::Interrupted, Exit::Stopping.code()));
    // Published twice: first that nothing runs any more, then what was lost, once each of it has its end.
    world.until_activity(|activity| !activity.lost.is_empty());
    assert_eq!(world.activity().jobs, [""; 0]);
    let lost: Vec<String> = world.activity().lost.iter().map(ToString::to_string).collect();
    assert_eq!(lost, [format!("{} (p gate)", job.id)], "it is named");
    open_gate(&world.paths.home.join("gate"), "the orphan may go");
    world.signal(Signal::SIGTERM);
    world.ended();
    world.serve();
    world.until_activity(|activity| activity.lost.is_empty());
}

#[test]
fn more_jobs_than_may_run_wait_for_their_turn() {
    let mut world = World::new();
    fs::write(&world.paths.config, "[user]\nmax-running-jobs = 1\n").unwrap();
    world.serve();
    push(&world, "");
    let gate = world.gate("gate1");
    let jobs: Vec<JobStarted> = ["gate1", "ok", "ok", "ok"].map(|attr| start(&world, attr)).into();
    assert_eq!(jobs.iter().map(|job| job.queued).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(world.activity().jobs, ["1", "2", "3", "4"], "a queued job is work");
    let states = || -> Vec<JobState> {
        let list: Vec<JobInfo> = world.run_json(&["job", "list"], b"");
        list.iter().map(JobInfo::state).collect()
    };
    assert_eq!(states(), [JobState::Queued, JobState::Queued, JobState::Queued, JobState::Running]);
    let cancelled = world.run_json::<FollowEvent>(&["job", "cancel", "3", "--wait"], b"");
    assert!(matches!(cancelled, FollowEvent::End(end) if end.state() == JobState::Cancelled));
    open_gate(&gate, "through");
    assert_eq!(follow(&world, "2", "0").2, ended(0, &["/nix/store/aaa-ok"]));
    assert_eq!(follow(&world, "4", "0").2.state(), JobState::Finished);
    world.until_activity(|a| a.jobs.is_empty());

    // More may run at once from the moment on in which the configuration says so.
    world.gate("gate2");
    let (first, second) = (start(&world, "gate2"), start(&world, "ok"));
    assert_eq!((first.queued, second.queued), (0, 1));
    fs::write(&world.paths.config, "[user]\nmax-running-jobs = 2\n").unwrap();
    assert_eq!(follow(&world, &second.id, "0").2.state(), JobState::Finished);

    // Whoever waits when the builder leaves has not been forgotten.
    fs::write(&world.paths.config, "[user]\nmax-running-jobs = 1\n").unwrap();
    world.until(&world.paths.run_dir(Container::User), || start(&world, "ok").queued > 0);
    world.signal(Signal::SIGTERM);
    world.until_phase(contract::handshake::Phase::Draining);
    let list: Vec<JobInfo> = world.run_json(&["job", "list"], b"");
    assert_eq!(list[0].state(), JobState::Interrupted);
    assert!(list[0].end.as_ref().unwrap().note.as_ref().unwrap().contains("before it began"), "{list:?}");
    open_gate(&world.paths.home.join("gate2"), "through");
    assert_eq!(world.ended(), 0);
}

#[test]
fn every_byte_comes_once_however_often_the_follower_is_cut_off() {
    let world = world();
    let gate = world.gate("bytes");
    let job = start(&world, "bytes");
    let log = world.paths.jobs().join(&job.id).join("log");
    let (mut seen, mut end, mut cuts) = (Vec::new(), None, 0);
    // A cheap generator: where it is cut off only has to differ.
    let mut random = 12345_u64;
    while end.is_none() {
        let from = seen.len().to_string();
        let mut child = world
            .command(&["job", "follow", &job.id, "--from", &from])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        // Now and then enough for the longest event.
        let most = if cuts % 8 == 7 { 400_000 } else { 1 + (random >> 33) % 120_000 };
        let mut got = Vec::new();
        std::io::Read::read_to_end(&mut std::io::Read::take(&mut out, most), &mut got).unwrap();
        let _ = child.kill();
        child.wait().unwrap();
        let (bytes, ended) = told(&got, seen.len() as u64);
        seen.extend(bytes);
        (end, cuts) = (ended, cuts + 1);
        if cuts == 3 {
            open_gate(&gate, "the second half");
        }
    }
    assert_eq!(end.unwrap().state(), JobState::Finished);
    assert!(cuts > 15, "only {cuts} cuts");
    let whole = fs::read(&log).unwrap();
    assert!(
        String::from_utf8(whole.clone()).is_err() && !whole.ends_with(b"\n"),
        "it has all that a log may have"
    );
    assert_eq!(seen.len(), whole.len());
    assert!(seen == whole, "the same bytes in the same order");

    let now = world.run(&["job", "follow", &job.id, "--now"]);
    assert!(told(&now.stdout, 0).0 == whole);
}

#[test]
fn old_jobs_and_trees_go_but_the_last_result_stays() {
    let mut world = World::new();
    fs::write(&world.paths.config, "[user]\nkeep-jobs = 2\nkeep-generations = 2\n").unwrap();
    world.serve();
    push(&world, "");
    for attr in ["ok", "ok", "ok", "fail", "fail", "fail"] {
        let job = start(&world, attr);
        follow(&world, &job.id, "0");
    }
    // An id of an earlier version.
    let jobs = world.paths.jobs();
    fs::rename(jobs.join("1"), jobs.join("1700000000-2")).unwrap();
    let there = || {
        let list: Vec<JobInfo> = world.run_json(&["job", "list"], b"");
        list.into_iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(
        there(),
        ["6", "5", "4", "3", "2", "1700000000-2"],
        "what has just ended may still be followed"
    );
    let age = |hours: u64| {
        let at = std::time::SystemTime::now() - std::time::Duration::from_secs(hours * 3600);
        for job in fs::read_dir(&jobs).unwrap() {
            let end = fs::File::options().write(true).open(job.unwrap().path().join("exit.json")).unwrap();
            end.set_modified(at).unwrap();
        }
    };
    age(1);
    let last = start(&world, "fail");
    follow(&world, &last.id, "0");
    world.until(&jobs, || there() == ["7", "6", "3", "2"]);
    assert!(jobs.join("3/result").symlink_metadata().is_ok());
    // Of another project none of these count, and none of them is too old yet but for the last result.
    age(29 * 24);
    push(&world, "x");
    world.until(&jobs, || there().len() == 4);
    age(31 * 24);
    push(&world, "y");
    world.until(&jobs, || there() == ["7", "3"]);
    for n in 0..4 {
        push(&world, &n.to_string());
    }
    let project = world.paths.projects().join("p");
    world.until(&project, || !project.join("000005").exists() && project.join("000006").exists());
}
