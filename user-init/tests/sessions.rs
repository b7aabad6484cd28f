//! Ways in, and the two ways out: a stop that the monitor asks for, and a SIGTERM from outside.

#![allow(clippy::unwrap_used, reason = "a test")]

mod common;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};

use agent::files;
use common::agent_process::{World, ended_in_time};
use contract::exit::Exit;
use contract::handshake::{
    AgentStatus, BuilderStatus, Drain, Life, Phase, SessionKind, StopAck, StopEnd, StopPhase, file,
};
use contract::places::Container;
use nix::sys::signal::Signal;

fn stopping() -> Option<i32> {
    Some(i32::from(Exit::Stopping.code()))
}

/// A session that lasts until its standard input closes.
fn open_session(world: &World) -> Child {
    let mut words = world.command(&["session", "--kind", "exec", "--", "cat"]);
    let child = words.stdin(Stdio::piped()).spawn().unwrap();
    world.until_activity(|a| !a.sessions.is_empty());
    child
}

/// It ends although its standard input stays open.
fn told(mut session: Child) -> Option<i32> {
    let _open = session.stdin.take();
    ended_in_time(&mut session).code()
}

fn close(mut session: Child) -> Option<i32> {
    drop(session.stdin.take());
    ended_in_time(&mut session).code()
}

fn until_ack(world: &World, generation: u64) -> u32 {
    let ack = || world.own::<StopAck>(file::ACK).filter(|a| a.generation == generation);
    world.until(&world.paths.run_dir(Container::User), || ack().is_some());
    ack().unwrap().work
}

/// Waits for the line that tells of waiting.
fn until_it_waits(session: &mut Child) {
    let mut line = String::new();
    BufReader::new(session.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("about to stop: waiting"), "{line}");
}

#[test]
fn a_signal_reaches_a_command_without_a_terminal() {
    let mut world = World::new();
    world.serve();
    // The shell waits for what it has started: all of it must be told.
    let line = "trap 'echo interrupted; exit 5' INT; echo begun; sleep 100 & wait";
    for (id, name, code) in [("a", "int", 5), ("b", "term", 143)] {
        let mut words = world.command(&["session", "--kind", "exec", "--id", id, "--", "sh", "-c", line]);
        let mut child = words.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut begun = String::new();
        out.read_line(&mut begun).unwrap();
        for other in [["signal", "other", name], ["signal", id, name]] {
            assert!(world.run(&other).status.success());
        }
        assert_eq!(ended_in_time(&mut child).code(), Some(code), "{name}");
    }
    assert_eq!(world.run(&["signal", "a", "kill"]).status.code(), Some(64));
}

#[test]
fn a_session_has_its_environment_its_code_and_nothing_of_ours() {
    let mut world = World::new();
    fs::write(&world.paths.config, "[user]\nmax-processes = 777\n").unwrap();
    world.serve();
    let shell = |line: &str| world.run(&["session", "--kind", "exec", "--", "sh", "-c", line]);
    let text = |line: &str| String::from_utf8(shell(line).stdout).unwrap();
    assert_eq!(text("echo $NIX_REMOTE $USER; pwd"), format!("daemon nix\n{}\n", world.paths.home.display()));
    assert_eq!(text("command -v nix"), format!("{}/bin/nix\n", world.paths.default_profile().display()));
    // Nothing but what a child of ours has anyway.
    let count = "ls /proc/self/fd | wc -l";
    let plain = std::process::Command::new("sh").args(["-c", count]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(text(count), String::from_utf8(plain.stdout).unwrap());
    assert!(
        text("cat /proc/self/limits").lines().any(|l| l.starts_with("Max processes") && l.contains("777"))
    );
    let ignored = text("grep SigIgn /proc/self/status");
    let ignored = u64::from_str_radix(ignored.split_whitespace().nth(1).unwrap(), 16).unwrap();
    assert_eq!(ignored & 0b110, 0, "SIGINT and SIGQUIT are the command's own");
    assert_eq!(shell("exit 7").status.code(), Some(7));
    assert_eq!(shell("kill -TERM $$").status.code(), Some(143));
    assert_eq!(world.run(&["session", "--", "no such program"]).status.code(), Some(127));
    assert_eq!(world.run(&["session", "--kind", "other"]).status.code(), Some(64));
    assert_eq!(world.run(&["session", "--project", "p", "--", "true"]).status.code(), Some(64));
    world.until_activity(|a| a.sessions.is_empty() && a.last_work > 0);

    let session = open_session(&world);
    let shown = &world.activity().sessions[0];
    assert_eq!((shown.kind, shown.command.as_str()), (SessionKind::Exec, "cat"));
    assert_eq!(shown.pid, i32::try_from(session.id()).unwrap());
    let status: BuilderStatus = world.run_json(&["status"], b"");
    assert_eq!((status.user.unwrap().sessions.len(), status.pids_limit), (1, Some(777)));
    assert!(status.ready.is_some());
    assert_eq!(close(session), Some(0));
}

#[test]
fn whoever_awaits_is_told_of_each_change_and_let_in_at_the_end() {
    let mut world = World::new();
    let ready = world.paths.run_dir(Container::Daemon).join(file::READY);
    let _ = fs::remove_file(&ready);
    world.start_serve();
    world.until_phase(Phase::Starting);
    let mut child = world.command(&["await", "--keys"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJGXmjOvTTDrbYcJcGLEYZpoMQWmJbTxMnVVE4LZyZ9 me@here";
    stdin.write_all(format!("{key}\n\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let first: BuilderStatus = serde_json::from_str(&lines.next().unwrap()).unwrap();
    assert!(first.ready.is_none());
    world.publish_ready();
    let last: BuilderStatus = serde_json::from_str(&lines.last().unwrap()).unwrap();
    assert!(last.ready.is_some() && last.agents.iter().any(|agent| agent.phase == Phase::Running));
    assert_eq!(ended_in_time(&mut child).code(), Some(0));
    let keys = fs::read_to_string(world.paths.home.join(".ssh/authorized_keys")).unwrap();
    assert!(keys.contains(key), "{keys}");

    let refused = world.run_with(&["await", "--keys"], b"no key\n\n");
    assert_eq!(refused.status.code(), Some(64));
}

#[test]
fn whoever_awaits_leaves_with_its_reader() {
    let mut world = World::new();
    let _ = fs::remove_file(world.paths.run_dir(Container::Daemon).join(file::READY));
    world.start_serve();
    world.until_phase(Phase::Starting);
    let mut child = world.command(&["await"]).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut String::new()).unwrap();
    drop(out);
    assert_ne!(ended_in_time(&mut child).code(), Some(0));
}

#[test]
fn what_sshd_hands_over_runs_in_a_shell() {
    let mut world = World::new();
    world.serve();
    let mut session = world.command(&["session", "--kind", "ssh"]);
    session.env("SSH_ORIGINAL_COMMAND", "echo \"$NIX_REMOTE\" | tr a-z A-Z; exit 5");
    let output = session.output().unwrap();
    assert_eq!((output.stdout.as_slice(), output.status.code()), (b"DAEMON\n".as_slice(), Some(5)));
    let mut login = world.command(&["session", "--kind", "ssh"]).stdin(Stdio::piped()).spawn().unwrap();
    login.stdin.take().unwrap().write_all(b"echo $0; exit 4\n").unwrap();
    let output = login.wait_with_output().unwrap();
    assert_eq!((String::from_utf8_lossy(&output.stdout).trim(), output.status.code()), ("-bash", Some(4)));
}

#[test]
fn nobody_is_let_in_between_the_question_and_the_answer() {
    let mut world = World::new();
    world.serve();
    let session = open_session(&world);
    world.stop(1, StopPhase::Ask);
    assert_eq!(until_ack(&world, 1), 1);
    let mut waiting = world.command(&["session", "--", "true"]).spawn().unwrap();
    until_it_waits(&mut waiting);
    assert_eq!(world.activity().sessions.len(), 1, "who waits is not in");
    world.stop(1, StopPhase::Open);
    assert_eq!(ended_in_time(&mut waiting).code(), Some(0));
    assert_eq!(close(session), Some(0));
    world.until_activity(|a| a.sessions.is_empty());

    world.stop(2, StopPhase::Ask);
    assert_eq!(until_ack(&world, 2), 0);
    let mut waiting = world.command(&["session", "--", "true"]).spawn().unwrap();
    until_it_waits(&mut waiting);
    world.stop(2, StopPhase::Final);
    assert_eq!(ended_in_time(&mut waiting).code(), stopping());
    assert_eq!(world.ended(), 0);
    assert_eq!(world.own::<AgentStatus>(file::STATUS).unwrap().phase, Phase::Ended);
    assert!(!world.paths.control_socket().exists());
    let late = world.run(&["session", "--", "true"]);
    assert_eq!(late.status.code(), stopping());
    assert!(String::from_utf8_lossy(&late.stderr).contains("not serving"));
}

#[test]
fn whoever_is_let_in_says_so_by_a_descriptor_that_its_command_has_not() {
    let mut world = World::new();
    world.serve();
    let told = world.root().join("begun");
    let session = |script: &str| {
        let words = world.command(&["session", "--begun-fd", "3", "--", "sh", "-c", script]);
        // The engine gives it an open file.
        let mut engine = Command::new("sh");
        engine
            .args(["-c", "exec \"$@\" 3>\"$0\""])
            .arg(&told)
            .arg(words.get_program())
            .args(words.get_args());
        engine.stdin(Stdio::null()).output().unwrap()
    };
    let script = format!("test -s {} && ! test -e /proc/$$/fd/3 || exit 1; exit 75", told.display());
    let output = session(&script);
    assert_eq!(output.status.code(), stopping(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read(&told).unwrap().len(), 1, "the code is the command's own");
    world.stop(1, StopPhase::Ask);
    until_ack(&world, 1);
    world.stop_with(StopEnd::AwaitSignal, world.life.clone(), 1, StopPhase::Final);
    assert_eq!(session("true").status.code(), stopping());
    assert_eq!(fs::read(&told).unwrap().len(), 0, "it has not run");
    assert_eq!(world.run(&["session", "--begun-fd", "77", "--", "true"]).status.code(), Some(64));
    let refused = world.run(&["session", "--begun-word", "<begun>", "--", "true"]);
    assert_eq!((refused.status.code(), refused.stderr), (stopping(), b"<refused: begun>".to_vec()));
}

#[test]
fn whoever_is_let_in_says_so_before_all_that_its_command_says() {
    let mut world = World::new();
    world.serve();
    let output =
        world.run(&["session", "--begun-word", "<begun>", "--", "sh", "-c", "echo out >&2; exit 75"]);
    assert_eq!(output.status.code(), stopping());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "<begun>out\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
}

#[test]
fn where_the_engine_ends_the_pod_it_refuses_and_stays() {
    let mut world = World::new();
    world.serve();
    let stop = |generation, phase| {
        world.stop_with(StopEnd::AwaitSignal, world.life.clone(), generation, phase);
    };
    stop(1, StopPhase::Ask);
    assert_eq!(until_ack(&world, 1), 0);
    let mut waiting = world.command(&["session", "--", "true"]).spawn().unwrap();
    until_it_waits(&mut waiting);
    stop(1, StopPhase::Final);
    assert_eq!(ended_in_time(&mut waiting).code(), stopping());
    let late = world.run(&["session", "--", "true"]);
    assert_eq!(late.status.code(), stopping());
    assert!(String::from_utf8_lossy(&late.stderr).contains("idle for 30m"), "it is there to say why");
    // Somebody was faster than the engine; then idle again, and the signal comes.
    stop(1, StopPhase::Open);
    stop(2, StopPhase::Ask);
    assert_eq!(until_ack(&world, 2), 0);
    let mut waiting = world.command(&["session", "--", "true"]).spawn().unwrap();
    until_it_waits(&mut waiting);
    stop(2, StopPhase::Open);
    assert_eq!(ended_in_time(&mut waiting).code(), Some(0));
    stop(3, StopPhase::Final);
    world.signal(Signal::SIGTERM);
    assert_eq!(world.ended(), 0);
}

#[test]
fn a_request_of_another_life_is_void() {
    let mut world = World::new();
    world.stop_of(Life("another:1".into()), 1, StopPhase::Final);
    world.serve();
    assert_eq!(world.run(&["session", "--", "true"]).status.code(), Some(0));
    // One that stands from before in this life holds.
    world.signal(Signal::SIGTERM);
    assert_eq!(world.ended(), 0);
    world.stop(3, StopPhase::Final);
    world.start_serve();
    assert_eq!(world.ended(), 0);
}

#[test]
fn open_terminals_are_told_when_it_is_final() {
    for end in [StopEnd::Leave, StopEnd::AwaitSignal] {
        let mut world = World::new();
        world.serve();
        let line = "trap 'echo told; exit 3' HUP; echo up; while :; do read -r x <>/proc/self/fd/0; done";
        let mut session =
            world.command(&["session", "--", "bash", "-c", line]).stdin(Stdio::piped()).spawn().unwrap();
        let mut out = BufReader::new(session.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        world.stop_with(end, world.life.clone(), 1, StopPhase::Final);
        if end == StopEnd::AwaitSignal {
            while world.run(&["session", "--", "true"]).status.code() != stopping() {}
            // What a kubelet sends, to whoever is still there, says no reason.
            world.signal(Signal::SIGTERM);
        }
        assert_eq!(ended_in_time(&mut session).code(), Some(3));
        out.read_to_string(&mut said).unwrap();
        assert_eq!(said, "up\ntold\n");
        let mut why = String::new();
        session.stderr.take().unwrap().read_to_string(&mut why).unwrap();
        assert!(why.contains("the builder stops: idle for 30m"), "{why}");
        assert_eq!(world.ended(), 0);
    }
}

#[test]
fn a_sigterm_from_outside_keeps_what_is_there() {
    let mut world = World::new();
    world.serve();
    let session = open_session(&world);
    world.signal(Signal::SIGTERM);
    world.until_phase(Phase::Draining);
    let refused = world.run(&["session", "--", "true"]);
    assert_eq!(refused.status.code(), stopping());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("stopped from outside"));
    // The monitor still hears how much is left.
    world.stop(1, StopPhase::Ask);
    assert_eq!(until_ack(&world, 1), 1);
    assert_eq!(close(session), Some(0));
    assert_eq!(world.ended(), 0, "without work there is nothing to wait for");
}

#[test]
fn it_leaves_when_the_daemon_has_drained() {
    let mut world = World::new();
    world.serve();
    let session = open_session(&world);
    world.signal(Signal::SIGTERM);
    world.until_phase(Phase::Draining);
    let drain = |drained| Drain { life: world.life.clone(), drained, builds: 0, deadline: 0 };
    let dir = world.paths.run_dir(Container::Daemon);
    files::write_json(&dir, file::DRAIN, &drain(false)).unwrap();
    files::write_json(&dir, file::DRAIN, &drain(true)).unwrap();
    assert_eq!(told(session), Some(129), "SIGHUP");
    assert_eq!(world.ended(), 0);
}

#[test]
fn a_second_sigterm_cuts_the_grace_short() {
    let mut world = World::new();
    world.serve();
    let session = open_session(&world);
    world.signal(Signal::SIGTERM);
    world.until_phase(Phase::Draining);
    world.signal(Signal::SIGTERM);
    assert_eq!(told(session), Some(129), "SIGHUP");
    assert_eq!(world.ended(), 0);
}

#[test]
fn it_waits_for_the_daemon_and_leaves_when_asked_meanwhile() {
    let mut world = World::new();
    fs::remove_file(world.paths.run_dir(Container::Daemon).join(file::READY)).unwrap();
    world.start_serve();
    world.until_phase(Phase::Starting);
    world.publish_ready();
    world.until_phase(Phase::Running);
    world.signal(Signal::SIGTERM);
    assert_eq!(world.ended(), 0);
    fs::remove_file(world.paths.run_dir(Container::Daemon).join(file::READY)).unwrap();
    world.start_serve();
    world.until_phase(Phase::Starting);
    world.signal(Signal::SIGTERM);
    assert_eq!(world.ended(), 0);
}

#[test]
fn a_command_of_the_clients_is_not_let_in_without_a_daemon() {
    let mut world = World::new();
    world.serve();
    fs::remove_file(world.paths.run_dir(Container::Daemon).join(file::READY)).unwrap();
    let refused = world.run(&["session", "--id", "7-1", "--", "echo", "in"]);
    assert_eq!((refused.status.code(), refused.stdout.as_slice()), (stopping(), &b""[..]), "{refused:?}");
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(words.contains("the daemon does not serve"), "{words}");
    let by_ssh = world.run(&["session", "--kind", "ssh", "--", "echo", "in"]);
    assert_eq!((by_ssh.status.code(), by_ssh.stdout.as_slice()), (Some(0), &b"in\n"[..]), "{by_ssh:?}");
}

#[test]
fn last_words_name_what_is_wrong() {
    let mut world = World::new();
    fs::write(&world.paths.config, "[user]\nkeep-jops = 1\n").unwrap();
    world.start_serve();
    world.until_phase(Phase::Failed);
    let status: AgentStatus = world.own(file::STATUS).unwrap();
    assert_eq!(status.exit, Some(Exit::Config));
    assert!(status.message.contains("keep-jops"), "{}", status.message);
    // A changed configuration ends the pause; the engine starts it again.
    fs::write(&world.paths.config, "").unwrap();
    assert_eq!(world.ended(), i32::from(Exit::Config.code()));
    assert_eq!(world.run(&["session", "--", "true"]).status.code(), stopping());
}

#[test]
fn keys_of_the_configuration_come_and_go_with_it() {
    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBJGXmjOvTTDrbYcJcGLEYZpoMQWmJbTxMnVVE4LZyZ9 me@here";
    let mut world = World::new();
    world.serve();
    assert!(world.run(&["keys", "ls"]).stdout.is_empty());
    assert_eq!(
        world.run_with(&["keys", "add"], KEY.replace("LZyZ9 me", "LZyZ8 you").as_bytes()).status.code(),
        Some(0)
    );
    fs::write(&world.paths.config, format!("[user]\nauthorized-keys = [\"{KEY}\"]\n")).unwrap();
    let dir = world.paths.run_dir(Container::User);
    let keys = || fs::read_to_string(dir.join("authorized_keys")).unwrap_or_default();
    world.until(&dir, || keys().contains(KEY));
    assert_eq!(String::from_utf8(world.run(&["keys", "ls"]).stdout).unwrap().lines().count(), 2);
    fs::write(&world.paths.config, "[user]\nauthorized-keys = [\"nonsense\"]\n").unwrap();
    world.until(&dir, || world.own::<AgentStatus>(file::STATUS).unwrap().config_note.is_some());
    assert!(keys().contains(KEY), "the last good configuration stays in force");
    fs::write(&world.paths.config, "# nothing\n").unwrap();
    world.until(&dir, || !keys().contains(KEY));
    assert_eq!(String::from_utf8(world.run(&["host-key"]).stdout).unwrap(), "ssh-ed25519 AAAAfake\n");
}

#[test]
fn sshd_is_started_again() {
    let mut world = World::new();
    world.serve();
    let dir = world.paths.run_dir(Container::User);
    let starts = || fs::read_to_string(dir.join("sshd.starts")).unwrap_or_default().lines().count();
    world.until(&dir, || starts() == 1);
    let pid = fs::read_to_string(dir.join("sshd.starts")).unwrap().trim().parse().unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    world.until(&dir, || starts() == 2);
}
