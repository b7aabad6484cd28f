//! Processes of others, which all containers see.

use std::collections::BTreeSet;

use contract::places::Container;
use e2e::builder::Builder;

use super::{Attempt, all_fail, as_root, attempts, script, worked};
use crate::shared;

crate::scenarios! {
    Any: [
        memory_and_files_of_other_processes_are_out_of_reach,
        agents_take_no_signals_of_the_user,
        user_who_kills_all_that_is_theirs_comes_in_again,
        nothing_but_sshd_listens_where_builds_could_ask,
        credentials_of_the_machine_are_out_of_reach_where_the_pod_may_close_the_way,
    ],
}

/// Shell lines that set a variable to the process of a program. The kernel keeps 15 characters of its name. The user's
/// sessions are processes of `user-init`, too, but not the one that serves.
fn process(variable: &str, program: &str) -> String {
    let comm = &program[..program.len().min(15)];
    let words = if program == "user-init" { "'/opt/trampoline/bin/user-init serve '" } else { "*" };
    format!(
        "for p in /proc/[0-9]*; do\n\
           [ \"$(cat $p/comm 2>/dev/null)\" = {comm} ] || continue\n\
           case $(tr '\\0' ' ' <$p/cmdline) in {words}) {variable}=${{p#/proc/}}; break;; esac\n\
         done\n\
         [ -n \"${variable}\" ] || echo no process {program}\n"
    )
}

/// Every way to look into a process. To open its memory is allowed to exactly those who may trace it.
const LOOKS: [(&str, &str); 7] = [
    ("files", "ls /proc/$P/root/"),
    ("working folder", "ls /proc/$P/cwd/"),
    ("descriptors", "ls /proc/$P/fd/ && [ -n \"$(ls /proc/$P/fd/)\" ]"),
    ("environment", "head -c 1 /proc/$P/environ"),
    ("addresses", "head -c 1 /proc/$P/maps && [ -n \"$(head -c 1 /proc/$P/maps)\" ]"),
    ("memory", "exec 3</proc/$P/mem"),
    ("memory to write", "exec 3>>/proc/$P/mem"),
];

fn looks(whose: &str, variable: &str) -> Vec<Attempt> {
    let tries =
        LOOKS.map(|(what, line)| (format!("{what} of {whose}"), line.replace("$P", &format!("${variable}"))));
    tries.to_vec()
}

fn memory_and_files_of_other_processes_are_out_of_reach() {
    let builder = shared::builder();
    let mut before = "ONE=1\n".to_owned();
    let mut tries = looks("the pod's first process", "ONE");
    for (variable, program) in [
        ("A", "daemon-init"),
        ("B", "nix-daemon"),
        ("C", "maintenance-agent"),
        ("D", "shutdown-monitor"),
        ("E", "user-init"),
    ] {
        before += &process(variable, program);
        tries.extend(looks(program, variable));
    }
    all_fail(builder, &before, &tries);
    // One's own can be looked into by the same lines.
    let own = looks("oneself", "OWN");
    let output = builder.shell(&script("OWN=self", &own));
    assert_eq!(worked(&output, &own).len(), own.len(), "{output}");
    // All were there to be looked at.
    let found = builder.shell(&before).ok();
    assert_eq!(found.stdout, "", "{found}");
}

fn agents_take_no_signals_of_the_user() {
    let builder = shared::builder();
    let mut before = "ONE=1\n".to_owned();
    let mut tries = attempts([("the pod's first process", "kill -0 $ONE")]);
    let others = Container::ALL.into_iter().filter(|container| *container != Container::User);
    for (n, program) in others.map(Container::agent).chain(["nix-daemon"]).enumerate() {
        let variable = format!("P{n}");
        before += &process(&variable, program);
        // 0 asks whether one may.
        tries.push((program.to_owned(), format!("kill -0 ${variable}")));
        tries.push((format!("{program}: priority"), format!("renice -n 19 -p ${variable}")));
        tries.push((
            format!("{program}: out of memory first"),
            format!("echo 1000 >/proc/${variable}/oom_score_adj"),
        ));
    }
    all_fail(builder, &before, &tries);
    let own = builder.shell("sleep 60 & kill -0 $! && renice -n 19 -p $! && echo 1000 >/proc/$!/oom_score_adj; code=$?; kill $!; exit $code");
    own.ok();
}

fn user_who_kills_all_that_is_theirs_comes_in_again() {
    let builder = Builder::set_up(&[]);
    let before = builder.status()["pod"]["ready"].clone();
    // Sessions, sshd and user-init are the same person's.
    let _ = builder.shell("kill -9 -1");
    builder.cli(["up"]).run().ok();
    builder.cli(["shell", "--", "true"]).run().ok();
    builder.cli(["ssh", "--", "true"]).run().ok();
    assert_eq!(builder.status()["pod"]["ready"], before, "the daemon has seen nothing of it");
}

fn nothing_but_sshd_listens_where_builds_could_ask() {
    let builder = shared::builder();
    // Fixed-output builds share the pod's network: 127.0.0.1 and abstract sockets.
    let tcp = as_root(builder, "cat /proc/net/tcp; cat /proc/net/tcp6 2>/dev/null; true").ok();
    let listening: BTreeSet<u16> = tcp
        .stdout
        .lines()
        .map(|line| line.split_ascii_whitespace().collect::<Vec<_>>())
        .filter(|words| words.get(3) == Some(&"0A"))
        .filter_map(|words| u16::from_str_radix(words[1].rsplit_once(':')?.1, 16).ok())
        .collect();
    assert_eq!(listening, BTreeSet::from([contract::places::SSH_PORT]), "{tcp}");
    let udp = as_root(builder, "cat /proc/net/udp /proc/net/udp6 2>/dev/null; true").ok();
    let bound = udp.stdout.lines().filter(|line| !line.contains("local_address")).count();
    assert_eq!(bound, 0, "{udp}");
    let sockets = as_root(builder, "cat /proc/net/unix").ok();
    let abstracts: Vec<&str> = sockets.stdout.lines().filter(|line| line.contains(" @")).collect();
    assert!(abstracts.is_empty(), "abstract sockets: {abstracts:?}");
    assert!(sockets.stdout.contains("daemon-socket"), "the list is this pod's: {sockets}");
}

fn credentials_of_the_machine_are_out_of_reach_where_the_pod_may_close_the_way() {
    // As the kernel lists it: address, no gateway, up, of one host, rejected.
    let closed = |builder: &Builder| {
        let routes = builder.shell("cat /proc/net/route").ok();
        routes.stdout.lines().any(|line| line.contains("FEA9FEA9\t00000000\t0205"))
    };
    let builder = shared::builder();
    if builder.status()["pod"]["ready"]["isolation"] == "userns" {
        // There it is for the cluster's network.
        return;
    }
    assert!(closed(builder));
    let ask = "curl -sS --max-time 20 http://169.254.169.254/; echo code $?";
    let asked = builder.shell(ask);
    // At once: not to be connected to.
    assert!(asked.stdout.contains("code 7"), "{asked}");
    let open = Builder::set_up(&[("daemon.node-credentials", "true")]);
    assert!(!closed(&open));
}
