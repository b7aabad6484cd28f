//! When a builder stops by itself.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use e2e::builder::Builder;
use e2e::engine::Need;
use e2e::nix_files::slow;
use e2e::setting::setting;
use e2e::terminal::Terminal;
use nix::sys::signal::Signal;

crate::scenarios! {
    Any: [
        idle_builder_stops_and_remembers_why,
        prompt_that_asks_all_the_time_keeps_no_builder,
    ],
    Root: [
        silent_build_and_working_session_are_not_idle,
        forgotten_connections_keep_no_builder,
        typed_terminal_and_hold_keep_it,
        open_terminal_is_told_before_the_stop_and_does_not_undo_it,
        changed_idle_timeout_reaches_a_running_builder,
    ],
}

fn idle_builder_stops_and_remembers_why() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"4s\"")]);
    builder.wait_stopped(60);
    stopped_for_idleness(&builder);
    builder.cli(["shell", "--", "true"]).run().ok();
}

/// An idle stop is no failure.
fn stopped_for_idleness(builder: &Builder) {
    let status = builder.status();
    assert_eq!(status["state"], "stopped", "{status}");
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("idle")), "{status}");
}

fn prompt_that_asks_all_the_time_keeps_no_builder() {
    // Long enough for a busy machine to ask more than once meanwhile.
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"20s\"")]);
    let questions = [&["list"][..], &["jobs"], &["logs", "--tail", "1"], &["config", "show"], &["hold"]];
    // Of one that stops, or does not run, some have nobody to ask.
    let ask = |question: &[&str]| drop(builder.cli(question.iter().copied()).run());
    let (begun, mut asked) = (Instant::now(), 0);
    for question in questions.iter().cycle() {
        let status = builder.status();
        if status["state"] == "stopped" {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(90), "asked {asked} times, and kept: {status}");
        ask(question);
        asked += 1;
    }
    assert!(asked > 1, "it was asked while it was idle");
    // Nor does it start one.
    questions.iter().for_each(|question| ask(question));
    stopped_for_idleness(&builder);
}

/// Seconds that silent builds last: twice as long as the builder may be idle, if no longer one is asked for.
fn silence() -> u32 {
    let given = std::env::var("TRAMPOLINE_SILENT_BUILD_SECONDS").ok();
    given.map_or(17, |text| text.parse().expect("a number of seconds"))
}

fn silent_build_and_working_session_are_not_idle() {
    let timeout = if silence() >= 120 { "\"1m\"" } else { "\"8s\"" };
    let builder = Builder::set_up(&[("shutdown.idle-timeout", timeout)]);
    // Nobody follows the build.
    let tree = builder.pushed("silent", &[("default.nix", &*slow("t-silent", silence()))]);
    let mut build = tree.cli(["build"]).start();
    let begun = build.line("begun ");
    let id = begun.trim().rsplit_once(' ').expect("begun NUMBER").1;
    build.signal(Signal::SIGKILL);
    drop(build);
    builder.wait_stopped(u64::from(silence()) + 180);
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id, "that build was let to its end");

    let session = tree.shell("timeout 17 sh -c 'while :; do :; done'; echo at work to the end").ok();
    assert_eq!(session.text(), "at work to the end");
    // Those who work would have said no in any case; but admission is closed while they are asked.
    let monitor = builder.cli(["logs", "shutdown-monitor"]).run().ok();
    assert!(!format!("{monitor}").contains("not idle after all"), "{monitor}");
    builder.wait_stopped(180);
    assert_eq!(builder.state(), "stopped");
}

/// The builder as a host of ssh.
fn ssh_config(builder: &Builder) -> PathBuf {
    builder.cli(["ssh-config"]).run().ok();
    builder.person().home().join(".ssh/trampoline").join(format!("{}.conf", builder.name()))
}

fn forgotten_connections_keep_no_builder() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"8s\"")]);
    let config = ssh_config(&builder);
    let alive = ["-o", "ServerAliveInterval=1", builder.name(), "--"];
    let ssh = builder.call("ssh").arg("-F").arg(&config).args(alive);
    let mut silent = ssh.arg("echo open; sleep 100").start_typing();
    silent.line("open");
    // That of an editor: its server and its machine tell each other once a second that they are there.
    let talk = "coproc ssh -F \"$0\" \"$@\" 'echo open; while read -r x; do sleep 1; echo \"$x\"; done'
        while read -r x <&\"${COPROC[0]}\"; do echo \"heard $x\"; echo alive >&\"${COPROC[1]}\"; done";
    let mut editor = builder.call("bash").args(["-c", talk]).arg(&config).args(alive).start();
    editor.line("heard alive");
    // A cluster is told how many there are within half a minute, and by then it has stopped.
    if !setting().engine.meets(Need::Cluster) {
        let status = builder.status();
        assert_eq!(status["pod"]["user"]["sessions"].as_array().map(Vec::len), Some(2), "{status}");
    }
    // Whose client is gone without a word.
    let mut left = builder.cli(["shell", "--", "sh", "-c", "echo open; exec sleep 600"]).start();
    left.line("open");
    left.signal(Signal::SIGKILL);
    builder.wait_stopped(60);
    drop((silent, editor, left));
    stopped_for_idleness(&builder);
}

fn open_terminal_is_told_before_the_stop_and_does_not_undo_it() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"8s\"")]);
    let words = [setting().cli.as_os_str(), OsStr::new("shell")];
    let mut terminal = Terminal::run(builder.call("script"), &words);
    terminal.shows("the builder stops in ");
    terminal.shows("the builder stops: idle for ");
    drop(terminal.end());
    builder.wait_stopped(60);
    stopped_for_idleness(&builder);
}

fn typed_terminal_and_hold_keep_it() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"12s\"")]);
    let words = [setting().cli.as_os_str(), OsStr::new("shell")];
    let mut terminal = Terminal::run(builder.call("script"), &words);
    // The kernel notes keys to eight seconds; longer than it may be idle.
    for key in 100..110 {
        terminal.press(format!("sleep 2; echo key $(({key} * 2))\n").as_bytes());
        terminal.shows(&format!("key {}", key * 2));
    }
    assert_eq!(builder.state(), "running", "somebody types");
    terminal.press(b"exit\n");
    drop(terminal.end());

    builder.cli(["hold", "25s", "--reason", "a demo"]).run().ok();
    let begun = Instant::now();
    let held = builder.cli(["hold"]).run().ok();
    assert!(held.stdout.contains("a demo"), "{held}");
    builder.wait_stopped(90);
    assert!(begun.elapsed() >= Duration::from_secs(24), "somebody held it: {:?}", begun.elapsed());

    // It needs a builder that runs.
    builder.cli(["hold", "1h", "--reason", "another"]).run().ok();
    assert_eq!(builder.state(), "running");
    builder.says("by hold, which ends in");
    builder.cli(["release"]).run().ok();
    builder.wait_stopped(60);
    assert_eq!(builder.state(), "stopped");
}

fn changed_idle_timeout_reaches_a_running_builder() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"1h\"")]);
    let life = builder.status()["pod"]["life"].clone();
    builder.configure(&[("shutdown.idle-timeout", "\"10s\"")]);
    builder.cli(["setup"]).run().ok();
    let now = builder.status()["pod"]["life"].clone();
    assert!(now.is_null() || now == life, "no other pod was made for it");
    builder.wait_stopped(60);
    assert_eq!(builder.state(), "stopped");
}
