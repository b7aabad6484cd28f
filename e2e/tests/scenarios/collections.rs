//! Collections, whoever starts them, beside a program of the store that runs in the user's container and that nothing else keeps.

use e2e::builder::Builder;
use e2e::person::Person;
use e2e::setting::setting;

crate::scenarios! {
    Any: [
        program_that_runs_outlives_every_collection,
    ],
    Podman: [
        program_outlives_a_daemon_that_sees_no_process_of_others,
    ],
}

/// Of how many, in three ways; all of them in a soak.
const COLLECTIONS: &str = "TRAMPOLINE_COLLECTIONS";

/// Adds a program to the store, starts it so that it outlives the session, and prints its process and its name in the store.
const START: &str = "\
    set -e; mkdir -p running; cd running; rm -f *; mkfifo idle; cp \"$(readlink -f \"$(command -v bash)\")\" running; \
    path=$(nix-store --add running); rm running; \
    \"$path\" -c 'read -r line <>idle' >/dev/null 2>&1 </dev/null & echo $! ${path##*/}";

/// A program that runs.
struct Running<'a> {
    builder: &'a Builder,
    pid: String,
    name: String,
}

impl<'a> Running<'a> {
    fn start(builder: &'a Builder) -> Self {
        let said = builder.shell(START).ok();
        let (pid, name) = said.text().split_once(' ').expect("PID NAME");
        Self { builder, pid: pid.to_owned(), name: name.to_owned() }
    }

    /// A path that nothing refers to.
    fn litter(&self, round: usize) -> String {
        let line = format!("echo {round} >litter && nix-store --add litter");
        self.builder.shell(&line).ok().text().to_owned()
    }

    /// It runs, what it runs is in the store, and the litter is gone.
    fn assert_spared(&self, litter: &str, round: usize) {
        let Self { pid, name, .. } = self;
        let line = format!("[ ! -e {litter} ] && [ -x /nix/store/{name} ] && kill -0 {pid}");
        let looked = self.builder.shell(&line);
        assert_eq!(looked.code, 0, "after collection {round}: {looked}");
    }
}

/// Half of them as the builder's own maintenance does it, the others as a user does, inside and from outside.
fn collect(builder: &Builder, round: usize) {
    match round % 4 {
        0 => drop(builder.shell("nix-collect-garbage").ok()),
        2 => {
            let file = builder.person().home().join(format!(".ssh/trampoline/{}.conf", builder.name()));
            let store = format!("ssh-ng://{}", builder.name());
            let nix = builder.call("nix").env("NIX_SSHOPTS", format!("-F {}", file.display()));
            let words = ["--extra-experimental-features", "nix-command", "store", "gc", "--store", &store];
            nix.args(words).run().ok();
        }
        _ => drop(builder.cli(["maintenance"]).run().ok()),
    }
}

fn outlives_all(builder: &Builder) {
    builder.cli(["ssh-config"]).run().ok();
    let running = Running::start(builder);
    let rounds = std::env::var(COLLECTIONS).map_or(20, |count| count.parse().expect("a number"));
    for round in 0..rounds {
        let litter = running.litter(round);
        collect(builder, round);
        running.assert_spared(&litter, round);
    }
    let root = format!("/nix/var/nix/gcroots/trampoline-in-use/{}", running.name);
    setting().engine.as_root(builder.name(), &format!("[ -L {root} ]")).ok();
    let end = format!(
        "kill {pid}; while kill -0 {pid} 2>/dev/null; do :; done; nix-collect-garbage",
        pid = running.pid
    );
    builder.shell(&end).ok();
    builder.shell(&format!("[ ! -e /nix/store/{} ]", running.name)).ok();
}

fn program_that_runs_outlives_every_collection() {
    let builder = Builder::set_up(&[]);
    outlives_all(&builder);
    // Nothing is in use by a builder that is stopped.
    Running::start(&builder);
    builder.cli(["maintenance"]).run().ok();
    builder.cli(["down"]).run().ok();
    let left = "ls -A /volume/var/nix/gcroots/trampoline-in-use 2>/dev/null; true";
    assert_eq!(setting().engine.with_store(builder.name(), left).ok().text(), "");
}

/// Makes the image's nix-daemon one without what lets root read the processes of others; newer kernels let whoever may trace the
/// machine's performance read their maps. Its sandbox needs one of them, so that it cannot build.
const BLIND: &str = "\
    set -e; cd -P /nix/var/nix/profiles/default/bin; mkdir ../seeing; mv nix-daemon ../seeing/; ln -s ../bin/nix ../seeing/nix; \
    caps=-sys_ptrace,-perfmon,-sys_admin; \
    { echo '#!/bin/sh'; \
      echo \"[ \\$(id -u) != 0 ] || less='setpriv --bounding-set=$caps --inh-caps=$caps --'\"; \
      echo \"exec \\$less $PWD/../seeing/nix-daemon \\\"\\$@\\\"\"; } >nix-daemon; \
    chmod 0555 nix-daemon";
/// CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON.
const SEEING: u64 = 1 << 19 | 1 << 21 | 1 << 38;

fn program_outlives_a_daemon_that_sees_no_process_of_others() {
    let image = format!("localhost/t-blind:{}", std::process::id());
    let engine = setting().engine;
    engine.derive_image(&image, &setting().image, BLIND);
    let builder = Builder::new(Person::new(), &[("builder.image", &format!("{image:?}"))]);
    builder.cli(["setup", "--yes"]).run().ok();
    let caps = "for p in /proc/[0-9]*; do \
                  read -r name <$p/comm; [ $name != nix-daemon ] || grep CapEff $p/status; \
                done 2>/dev/null; true";
    let caps = engine.as_root(builder.name(), caps).ok();
    let caps = caps.text().lines().next().and_then(|line| line.split_whitespace().last());
    let caps = u64::from_str_radix(caps.expect("nix-daemon runs"), 16).expect("hexadecimal");
    assert_eq!(caps & SEEING, 0, "it may not read the processes of others");
    outlives_all(&builder);
    builder.clean().ok();
    engine.remove_image(&image);
}
