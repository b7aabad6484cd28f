//! What starts a stopped builder: every way in.

use std::time::{Duration, Instant};

use e2e::builder::Builder;
use e2e::call::Call;
use e2e::nix_client::NixClient;
use e2e::nix_files::quick;
use e2e::setting::setting;

use crate::ssh::{block, ssh};
use crate::transfers::with_store;

crate::scenarios! {
    Any: [
        two_at_once_wake_it_once,
    ],
    Root: [
        any_command_wakes_a_stopped_builder,
        any_program_that_uses_ssh_wakes_a_stopped_builder,
        whoever_comes_around_an_idle_stop_is_served,
    ],
}

fn woken_by(builder: &Builder, call: Call) -> String {
    builder.cli(["down"]).run().ok();
    assert_eq!(builder.state(), "stopped");
    let output = call.run().ok();
    assert_eq!(builder.state(), "running", "after {output}");
    assert!(output.stderr.contains(&format!("builder {} is ready", builder.name())), "it is said: {output}");
    output.stdout
}

fn any_command_wakes_a_stopped_builder() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("wake", &[("default.nix", &*quick("t-wake", "awake"))]);
    let commands: [&[&str]; 6] = [
        &["build"],
        &["shell", "--", "true"],
        &["maintenance", "--dry-run"],
        &["push-tarball"],
        &["keys", "ls"],
        &["roots", "ls"],
    ];
    for command in commands {
        woken_by(&builder, tree.cli(command.iter().copied()));
    }
    let added = with_store(tree.call("nix-store"), &tree).args(["--add", "default.nix"]).run().ok();
    woken_by(&builder, with_store(tree.cli(["copy-closure", added.text()]), &tree));
    tree.shell(&format!("cmp {} default.nix", added.text())).ok();
}

fn any_program_that_uses_ssh_wakes_a_stopped_builder() {
    let builder = Builder::set_up(&[]);
    let name = builder.name();
    let tree = builder.checkout("wake-ssh", &[("default.nix", &*quick("t-wake-ssh", "by the hook"))]);
    let file = block(&builder);
    ssh(&builder, "git init -q --bare wake.git && echo first").run().ok();

    // The host key is the same, or ssh would refuse it.
    assert_eq!(woken_by(&builder, ssh(&builder, "echo woken")), "woken\n");
    let command = format!("ssh -F {}", file.display());
    let git = tree.call("git").env("GIT_SSH_COMMAND", &command);
    woken_by(&builder, git.args(["push", "-q", &format!("{name}:wake.git"), "main"]));
    let rsync = tree.call("rsync").args(["-a", "-e", &command, "default.nix", &format!("{name}:by-rsync")]);
    woken_by(&builder, rsync);

    let nix = NixClient::beside(&tree);
    let call = || nix.call(&tree, &file);
    let path = call().args(["store", "add-file", "default.nix"]).run().ok().stdout;
    let host = format!("ssh-ng://{name}");
    woken_by(&builder, call().args(["copy", "--to", &host, path.trim()]));
    ssh(&builder, &format!("cmp by-rsync {}", path.trim())).run().ok();

    let build =
        ["build", "-f", "default.nix", "--no-link", "--print-out-paths", "--max-jobs", "0", "--builders"];
    let built = woken_by(&builder, call().args(build).arg(format!("{host} x86_64-linux,aarch64-linux")));
    let real =
        tree.dir().with_file_name("nix-client").join("root").join(built.trim().trim_start_matches('/'));
    assert_eq!(std::fs::read_to_string(&real).ok().as_deref(), Some("by the hook\n"), "{}", real.display());
    // The same without a store of one's own.
    let store =
        ["build", "-f", "default.nix", "--no-link", "--print-out-paths", "--eval-store", "auto", "--store"];
    assert_eq!(woken_by(&builder, call().args(store).arg(&host)), built);
}

fn two_at_once_wake_it_once() {
    let builder = Builder::set_up(&[]);
    let file = block(&builder);
    let wakes =
        || setting().engine.as_root(builder.name(), "cat /run/trampoline/daemon/lives.json").ok().json();
    let before = wakes();
    builder.cli(["down"]).run().ok();
    let ready = "cat /run/trampoline/daemon/ready.json";
    let by_ssh = builder.call("ssh").arg("-F").arg(file).args([builder.name(), "--", ready]).start();
    let by_shell = builder.cli(["shell", "--", "sh", "-c", ready]).start();
    let (by_ssh, by_shell) = (by_ssh.output().ok(), by_shell.output().ok());
    assert_eq!(by_ssh.json(), by_shell.json(), "one daemon, started once");
    assert_eq!(before["wakes"].as_u64().map(|wakes| wakes + 1), wakes()["wakes"].as_u64());
}

const IDLE: Duration = Duration::from_secs(3);
/// Around so many stops.
const ROUNDS: u32 = 5;
/// Around each of them.
const ARRIVALS: u32 = 4;
/// The first begins so long before a stop is due, a little more than it takes to get there.
const BEFORE: Duration = Duration::from_millis(600);
/// Each of all begins so much later than the one before it, as counted from its stop.
const STEP: Duration = Duration::from_millis(100);

fn whoever_comes_around_an_idle_stop_is_served() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"3s\"")]);
    let file = block(&builder);
    let arrival = |by_ssh: bool| {
        if by_ssh {
            builder.call("ssh").arg("-F").arg(&file).args([builder.name(), "--", "echo in"])
        } else {
            builder.cli(["shell", "--", "echo", "in"])
        }
    };
    let mut woken = 0;
    let mut last = Instant::now();
    for round in 0..ROUNDS {
        let due = last + IDLE - BEFORE;
        let begun = (0..ARRIVALS).map(|number| {
            let at = due + STEP * (round * ARRIVALS + number);
            // Not a wait for something: together they are to fall everywhere around the stop.
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            let by_ssh = (round + number) % 2 == 0;
            arrival(by_ssh).start()
        });
        let begun: Vec<_> = begun.collect();
        for arrival in begun {
            let arrival = arrival.output().ok();
            assert_eq!(arrival.text(), "in", "in round {round}: {arrival}");
            woken += u32::from(arrival.stderr.contains("is ready"));
        }
        last = Instant::now();
    }
    assert!(woken > 0, "none of them met a stop");
}
