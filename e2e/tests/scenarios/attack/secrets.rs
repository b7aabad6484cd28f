//! Keys and tokens: who can read the files that hold them, and that nothing else does.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;

use contract::places::Container;
use e2e::builder::Builder;
use e2e::secrets::{Secret, found};
use e2e::setting::setting;

use super::{all_fail, all_work_for_root, attempts};
use crate::shared::{self, HOST_KEY, SIGNING_KEY};

crate::scenarios! {
    Any: [
        secret_files_are_their_owners_alone,
        key_that_the_builder_signs_with_is_out_of_reach,
        no_process_shows_a_secret_to_others,
    ],
    Cluster: [
        token_is_on_no_file_system_but_the_monitors,
    ],
}

fn inside(builder: &Builder, container: Container, line: &str) -> e2e::output::Output {
    setting().engine.inside(builder.name(), container.name(), line)
}

fn secret_files_are_their_owners_alone() {
    let builder = shared::builder();
    let clients = builder.person().secret_files();
    for file in ["signing-key", "ssh/id_ed25519"] {
        assert!(clients.iter().any(|found| found.ends_with(file)), "{file} is one of {clients:?}");
    }
    for file in clients {
        let mode = |path: &std::path::Path| {
            std::fs::metadata(path).expect("it was found").permissions().mode() & 0o7777
        };
        assert_eq!(mode(&file), 0o600, "{}", file.display());
        assert_eq!(mode(file.parent().expect("it is in a folder")), 0o700, "{}", file.display());
    }
    for ((container, file), owner) in [(HOST_KEY, "1000"), (SIGNING_KEY, "0")] {
        let stat =
            setting().engine.inside(builder.name(), container, &format!("stat -c '%u %a' {file}")).ok();
        assert_eq!(stat.text(), format!("{owner} 600"), "{stat}");
    }
}

fn key_that_the_builder_signs_with_is_out_of_reach() {
    let builder = shared::builder();
    let (_, key) = SIGNING_KEY;
    // The user's own path, which whoever has the key may sign.
    let path = builder.shell("cd ~; echo signed >t-signed; nix-store --add t-signed; rm t-signed").ok();
    let before =
        format!("export NIX_CONFIG='extra-experimental-features = nix-command'; path={}", path.text());
    let read = format!("cat {key}");
    let sign = format!("nix store sign -k {key} $path");
    let tries = attempts([("read it", &*read), ("sign with it", &*sign)]);
    all_fail(builder, &before, &tries);
    all_work_for_root(builder, &format!("export HOME=/tmp NIX_REMOTE=daemon; {before}"), &tries);
    // On a way around, which need not lead there for root, either.
    let around = format!(
        "cat /trampoline/volume{key} /proc/[0-9]*/root{key} /proc/[0-9]*/root/trampoline/volume{key}"
    );
    for container in [Container::User, Container::Maintenance, Container::ShutdownMonitor] {
        let got = inside(builder, container, &format!("{read}; {around}"));
        assert!(got.code != 0 && got.stdout.is_empty(), "{}: {got}", container.name());
    }
}

/// Prints what each process shows of itself to whoever runs this, behind a line with the name of the file and the program.
const SHOWN: &str = "for p in /proc/[0-9]*; do read -r name <$p/comm && for file in cmdline environ; do \
                       echo \"=== $file $name\"; tr '\\0' '\\n' <$p/$file; done; done 2>/dev/null; true";

/// A process with one thing in its environment and another in its arguments, neither of which any other process has.
const SHOWING: &str = "export T_KEPT=t-$((6*7))-kept; exec sh -c 'echo begun; read line' t-$((6*7))-given";

fn no_process_shows_a_secret_to_others() {
    let builder = shared::builder();
    let mut secrets = shared::secrets(builder);
    secrets
        .extend([("given", "t-42-given"), ("kept", "t-42-kept")].map(|(what, text)| Secret::new(what, text)));
    let mut control = builder.cli(["shell", "--", "sh", "-c", SHOWING]).start_typing();
    control.line("begun");
    let userns = builder.status()["pod"]["ready"]["isolation"] == "userns";
    for container in Container::ALL {
        let shown = inside(builder, container, SHOWN).ok();
        // What is given everybody sees; what is kept, the same user and whoever may look into all processes.
        let looks = container == Container::User || container == Container::Daemon && !userns;
        let wanted: &[&str] = if looks { &["given", "kept"] } else { &["given"] };
        assert_eq!(found(&shown.stdout, &secrets), wanted, "{}", container.name());
        // user-init shows its environment to nobody but root.
        let agent = container.agent();
        let heading = format!("=== environ {}\n", &agent[..agent.len().min(15)]);
        let mut of_agent = shown.stdout.split(&heading).skip(1);
        assert!(
            of_agent.any(|rest| rest.starts_with(|c| c != '=')) || container == Container::User,
            "{agent} shows its environment to {}",
            container.name()
        );
    }
    control.type_in(b"\n");
    control.output().ok();
}

fn token_is_on_no_file_system_but_the_monitors() {
    let builder = shared::builder();
    let place = contract::cluster::SERVICE_ACCOUNT;
    let mounts: BTreeMap<&str, bool> = Container::ALL
        .into_iter()
        .map(|container| {
            let mounts = inside(builder, container, "cat /proc/self/mountinfo").ok();
            (
                container.name(),
                mounts.stdout.contains(" /run/secrets") || mounts.stdout.contains(" /var/run/secrets"),
            )
        })
        .collect();
    let monitor = Container::ShutdownMonitor;
    let having: BTreeSet<&str> = mounts.iter().filter(|(_, has)| **has).map(|(name, _)| *name).collect();
    assert_eq!(having, BTreeSet::from([monitor.name()]));
    // The kubelet gives a token to one user alone only where all containers have the same: this one is root's, and read by a
    // monitor that is not.
    let look =
        format!("stat -L -c '%u %a' {place}/token && test ! -w {place}/token && head -c 10 {place}/token");
    let seen = inside(builder, monitor, &look).ok();
    assert_eq!(seen.text(), "0 444\neyJhbGciOi", "{}", seen.stderr);
    let userns = builder.status()["pod"]["ready"]["isolation"] == "userns";
    let around = format!("cat {place}/token /proc/[0-9]*/root{place}/token");
    for container in Container::ALL.into_iter().filter(|container| *container != monitor) {
        let got = inside(builder, container, &around);
        // With privilege, root of the daemon container is root of the node.
        let reads = container == Container::Daemon && !userns;
        assert_eq!(got.stdout.contains("eyJhbGciOi"), reads, "{}: ended with {}", container.name(), got.code);
    }
}
