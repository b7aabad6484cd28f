//! A build is a job of the builder: its exit code is Nix's, and it does not depend on who watches.

use e2e::nix_files::{derivation, failing, quick, slow};
use e2e::setting::setting;
use e2e::terminal::{CONTROL_C, Terminal};
use nix::sys::signal::Signal;

use crate::shared;

crate::scenarios! {
    Any: [
        exit_code_is_nix_s_own,
        killed_client_leaves_the_build_running,
        signal_to_the_client_reaches_a_command_without_a_terminal,
        control_c_cancels_the_build_and_leaves_the_terminal_sane,
    ],
    Root: [
        stdout_holds_store_paths_alone,
        json_of_every_command_with_data_parses,
        killed_connection_leaves_the_build_running,
    ],
}

fn exit_code_is_nix_s_own() {
    let files = [("bad.nix", &*failing("t-bad")), ("typo.nix", "{"), ("good.nix", &quick("t-good", "yes"))];
    let tree = shared::builder().pushed("codes", &files);
    let bad = tree.cli(["build", "-f", "bad.nix"]).run();
    assert!(bad.code == 1 || bad.code == 100, "{bad}");
    assert!(bad.stderr.contains("this goes wrong") && bad.stdout.is_empty(), "{bad}");
    tree.cli(["build", "-f", "typo.nix"]).run().ended(1);
    tree.cli(["build", "-f", "good.nix", "no.such.attribute"]).run().ended(1);
    tree.cli(["build", "-f", "good.nix"]).run().ok();
    let json = tree.cli(["build", "-f", "bad.nix", "--json"]).run();
    assert_eq!(json.json()["code"], json.code, "{json}");

    tree.shell("exit 37").ended(37);
    let killed = tree.shell("kill -9 $$");
    assert_eq!(killed.code, 137, "{killed}");
}

fn stdout_holds_store_paths_alone() {
    let two = format!("{{ a = {}; b = {}; }}", quick("t-a", "1"), quick("t-b", "2"));
    let tree = shared::builder().pushed("two", &[("default.nix", &two)]);
    let built = tree.cli(["build", "a", "b"]).run().ok();
    let paths: Vec<&str> = built.stdout.lines().collect();
    assert!(paths.len() == 2 && paths.iter().all(|path| path.starts_with("/nix/store/")), "{built}");
    assert!(
        built.stderr.contains("building t-a") && built.stderr.contains("building t-b"),
        "the log: {built}"
    );
}

fn json_of_every_command_with_data_parses() {
    let builder = shared::builder();
    let tree = builder.checkout("json", &[("default.nix", &*quick("t-json", "1"))]);
    let pushed = tree.cli(["push-tarball", "--json"]).run().ok().json();
    assert_eq!(pushed["project"], "json", "{pushed}");
    let built = tree.cli(["build", "--json"]).run().ok().json();
    assert!(built["outputs"][0].as_str().is_some_and(|path| path.ends_with("-t-json")), "{built}");
    for args in [&["status"][..], &["list"], &["config", "show"], &["config", "check"], &["maintenance"]] {
        let output = builder.cli(args.iter().copied().chain(["--json"])).run().ok();
        assert!(!output.json().is_null(), "{output}");
    }
    let schema = builder.cli(["config", "schema"]).run().ok().json();
    assert!(schema.is_object());
    let error = tree.cli(["push-tarball", "--json", "no-such-revision"]).run();
    assert_eq!(error.json()["error"]["exit"], error.code, "{error}");
}

/// Runs a slow build until it has begun, lets `cut` part us from it, and asks for the same again: what comes must be
/// the output of the very run that we saw begin.
fn survives(project: &str, cut: impl FnOnce(&mut e2e::process::Live)) {
    let builder = shared::builder();
    let tree = builder.pushed(project, &[("default.nix", &*slow(&format!("t-{project}"), 4))]);
    let mut build = tree.cli(["build"]).start();
    let begun = build.line("begun ");
    let id = begun.trim().rsplit_once(' ').expect("begun NUMBER").1.to_owned();
    cut(&mut build);
    drop(build);

    let again = tree.cli(["build"]).run().ok();
    assert_eq!(builder.shell(&format!("cat {}", again.text())).ok().text(), id, "a second run made it");
    // The first one's own record says so, too, and its result is a root.
    let jobs = "/home/nix/.local/state/trampoline/jobs";
    let kept = builder.shell(&format!(
        "cd {jobs}; for job in *; do if grep -q {id} $job/log; then cat $job/exit.json; readlink $job/result; fi; done"
    ));
    let kept = kept.ok();
    assert!(kept.stdout.contains("\"code\":0") && kept.stdout.contains(again.text()), "{kept}");
}

fn killed_client_leaves_the_build_running() {
    survives("killed", |build| build.signal(Signal::SIGKILL));
}

fn killed_connection_leaves_the_build_running() {
    let builder = shared::builder();
    survives("cut", |build| {
        // What the engine runs for the client in the pod: it ends, and the client follows again.
        let line = "for p in /proc/[0-9]*; do \
                      if tr '\\0' ' ' <$p/cmdline | grep -qE 'user-init job (start|follow)'; then kill -9 ${p#/proc/}; fi; \
                    done";
        let _ = builder.shell(line);
        build.line("ended");
    });
}

fn control_c_cancels_the_build_and_leaves_the_terminal_sane() {
    let builder = shared::builder();
    let script = "echo begun; sleep 60; echo $out > $out";
    let tree = builder.pushed("cancel", &[("default.nix", &*derivation("t-cancel", script))]);
    let words = [setting().cli.as_os_str(), "build".as_ref()];
    let mut terminal = Terminal::run(tree.call("script").within(50), &words);
    terminal.shows("begun");
    terminal.press(CONTROL_C);
    terminal.shows("interrupted; build");
    terminal.press(b"c\n");
    let (output, code) = terminal.end();
    assert!(code != 0 && output.stdout.contains("cancel"), "{output}");
    let ends = builder.shell("cat /home/nix/.local/state/trampoline/jobs/*/exit.json").ok();
    assert!(ends.stdout.contains("\"cancelled\":true"), "the job's own record: {ends}");
}

fn signal_to_the_client_reaches_a_command_without_a_terminal() {
    let builder = shared::builder();
    let line = "trap 'echo told; exit 5' TERM INT; echo begun $$; sleep 300 & wait";
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut shell = builder.cli(["shell", "--", "sh", "-c", line]).within(40).start();
        shell.line("begun ");
        shell.signal(signal);
        let shell = shell.output().ended(5);
        assert!(shell.stdout.contains("told"), "{shell}");
    }
    // As a key does it: the engine's process has the signal, too, and what it ran would go on without it.
    let line = "echo begun; exec sleep 301";
    let call = builder.call("setsid").arg(&setting().cli).args(["shell", "--", "sh", "-c", line]);
    let mut shell = call.start();
    shell.line("begun");
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(shell.pid()), Signal::SIGINT).expect("its own group");
    let shell = shell.output();
    let left = builder
        .shell("for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done | grep -x 'sleep 301 '");
    assert_eq!(left.stdout, "", "it goes on: {left}\n{shell}");
}
