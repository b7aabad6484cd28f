//! Files of others: the store, its database, what agents publish, the image.

use std::collections::BTreeSet;

use contract::places::Container;
use e2e::builder::Builder;
use e2e::secrets::{Secret, found};
use e2e::setting::setting;

use super::{all_fail, all_work_for_root, attempts};
use crate::shared::{self, HOST_KEY, SIGNING_KEY};

crate::scenarios! {
    Any: [
        store_and_database_are_the_daemons_alone,
        what_agents_publish_is_theirs_alone,
        image_and_configuration_cannot_be_changed,
        builders_see_nothing_of_each_other,
    ],
}

fn store_and_database_are_the_daemons_alone() {
    let builder = shared::builder();
    // To open for appending and write nothing changes nothing.
    let tries = attempts([
        ("plant a path", ": >/nix/store/t-planted && rm /nix/store/t-planted"),
        ("plant a folder", "mkdir /nix/store/t-planted && rmdir /nix/store/t-planted"),
        ("write to a path", ": >>\"$path\""),
        ("take a path away", "mv \"$path\" \"$path.away\" && mv \"$path.away\" \"$path\""),
        ("write the database", ": >>/nix/var/nix/db/db.sqlite"),
        ("plant in the database's folder", ": >/nix/var/nix/db/t-planted && rm /nix/var/nix/db/t-planted"),
        (
            "root a path for ever",
            "ln -s /nix/store /nix/var/nix/gcroots/t-planted && rm /nix/var/nix/gcroots/t-planted",
        ),
        (
            "plant a profile",
            "ln -s /nix/store /nix/var/nix/profiles/t-planted && rm /nix/var/nix/profiles/t-planted",
        ),
        (
            "replace the daemon's socket",
            ": >/nix/var/nix/daemon-socket/t-planted && rm /nix/var/nix/daemon-socket/t-planted",
        ),
        ("hold the lock of collections", "exec 3</nix/var/nix/gc.lock"),
        ("hold the lock of the database", "exec 3</nix/var/nix/db/big-lock"),
        ("hold the builder's own lock", "exec 3</nix/.trampoline/lock"),
        ("read the mark", "cat /nix/.trampoline/mark.json"),
    ]);
    let path = builder.shell("echo secret >t-victim; nix-store --add t-victim; rm t-victim").ok();
    let before = format!("path={}", path.text());
    all_fail(builder, &before, &tries);
    all_work_for_root(builder, &before, &tries);
    // As it was, to the bit.
    builder.shell(&format!("nix-store --verify-path {}", path.text())).ok();
}

fn what_agents_publish_is_theirs_alone() {
    let builder = shared::builder();
    let mut tries = attempts([
        ("forge that the daemon is ready", ": >>/run/trampoline/daemon/ready.json"),
        ("plant a folder", "mkdir /run/trampoline/t-planted && rmdir /run/trampoline/t-planted"),
        ("plant a link", "ln -s /etc/shadow /run/trampoline/t-planted && rm /run/trampoline/t-planted"),
        ("change Nix's settings", ": >>/run/trampoline/daemon/nix.conf"),
    ]);
    for writer in ["daemon", "maintenance", "shutdown-monitor"] {
        for (what, line) in [
            ("plant a file", ": >DIR/.t-planted && rm DIR/.t-planted"),
            ("plant where a file is made next", "ln -s /etc/shadow DIR/.t-planted && rm DIR/.t-planted"),
            ("move away", "mv DIR /run/trampoline/.t-away && mv /run/trampoline/.t-away DIR"),
            ("make it everybody's", "chmod 0777 DIR && chmod 0755 DIR"),
        ] {
            let line = line.replace("DIR", &format!("/run/trampoline/{writer}"));
            tries.push((format!("{what}: {writer}"), line));
        }
    }
    let life = builder.status()["pod"]["life"].clone();
    all_fail(builder, "", &tries);
    all_work_for_root(builder, "", &tries);
    assert_eq!(builder.state(), "running");
    assert_eq!(builder.status()["pod"]["life"], life);
}

fn image_and_configuration_cannot_be_changed() {
    // Of the user's own container, where nobody can but whoever makes it.
    let tries = attempts([
        ("the agents", ": >>/opt/trampoline/bin/user-init"),
        ("plant beside the agents", ": >/opt/trampoline/bin/t-planted"),
        ("the accounts", ": >>/etc/passwd"),
        ("the settings of Nix", ": >>/opt/trampoline/nix.conf"),
        ("the configuration", ": >>/etc/trampoline/config/trampoline.toml"),
        ("plant in the configuration", ": >/etc/trampoline/config/t-planted"),
        ("read the passwords", "cat /etc/shadow"),
        ("make the store writable", "mount -o remount,rw,bind /nix"),
        ("mount", "mkdir -p ~/m && mount -t tmpfs tmpfs ~/m"),
        (
            "become root by a program",
            "for p in /bin/su /bin/mount /bin/newuidmap; do [ -u $p ] && $p --version; done; [ $(id -u) = 0 ]",
        ),
        ("a device", "mknod ~/t-device b 8 0"),
        ("own what is root's", "chown 0 ~ "),
        ("the kernel's settings", "echo 1 >/proc/sys/kernel/panic"),
        ("the machine's log", "cat /dev/kmsg"),
    ]);
    all_fail(shared::builder(), "", &tries);
    let status = shared::builder().shell("cat /proc/self/status").ok();
    let field = |name: &str| {
        let line = status.stdout.lines().find_map(|line| line.strip_prefix(name)).expect("a field of status");
        line.trim().to_owned()
    };
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(set), "0000000000000000", "{set} {status}");
    }
    assert_eq!(field("NoNewPrivs:"), "1", "{status}");
    assert_eq!(field("Seccomp:"), "2", "a filter: {status}");
}

/// Prints all files in sight that are called what secrets of a builder are, on every mount and by way of every process.
const IN_SIGHT: &str = "\
    find / /home/nix /nix/.trampoline /trampoline/volume/nix/.trampoline /run/trampoline /tmp -xdev \
      -path /nix/store -prune -o \\( -name ssh_host_ed25519_key -o -name signing-key -o -name t-secret \\) -exec cat {} + 2>/dev/null; \
    for root in /proc/[0-9]*/root; do \
      cat $root/home/nix/t-secret $root/home/nix/.local/share/trampoline/ssh_host_ed25519_key \
          $root/nix/.trampoline/signing-key $root/trampoline/volume/nix/.trampoline/signing-key; \
    done 2>/dev/null; true";

fn builders_see_nothing_of_each_other() {
    let (one, other) = (shared::builder(), Builder::set_up(&[]));
    let with_home = |builder: &Builder, text: &str| {
        builder.shell(&format!("echo {text} >~/t-secret")).ok();
        [shared::secrets(builder), vec![Secret::new("~/t-secret", text)]].concat()
    };
    let (ones, others) = (with_home(one, "t-secret-of-one"), with_home(&other, "t-secret-of-the-other"));
    for (builder, own, not, theirs) in [(one, &ones, &other, &others), (&other, &others, one, &ones)] {
        for container in Container::ALL {
            let inside = |line| setting().engine.inside(builder.name(), container.name(), line).ok();
            let mounts = inside("cat /proc/self/mountinfo");
            // The name of one may be the beginning of another's.
            assert!(!mounts.stdout.contains(&format!("{}-", not.name())), "{mounts}");
            let seen = inside(IN_SIGHT).stdout;
            let marks = found(&seen, &[]);
            assert_eq!(found(&seen, theirs), marks, "{} sees what is not its builder's", container.name());
            // Its own is there to be found.
            let own = found(&seen, own);
            let wanted: &[&str] = match container {
                Container::Daemon => &["~/t-secret", HOST_KEY.1, SIGNING_KEY.1],
                Container::User => &["~/t-secret", HOST_KEY.1],
                Container::Maintenance | Container::ShutdownMonitor => &[],
            };
            let missing: Vec<_> = wanted.iter().filter(|what| !own.iter().any(|own| own == *what)).collect();
            assert!(missing.is_empty(), "{} does not see {missing:?}", container.name());
        }
        // Each agent is there once, so these are one builder's.
        let agents = builder.shell("cat /proc/[0-9]*/comm; true").ok();
        let seen: Vec<&str> = agents.stdout.lines().filter(|name| name.ends_with("-init")).collect();
        assert_eq!(
            seen.iter().copied().collect::<BTreeSet<_>>(),
            BTreeSet::from(["daemon-init", "user-init"])
        );
        assert_eq!(seen.iter().filter(|name| **name == "daemon-init").count(), 1, "{agents}");
    }
    one.shell("rm ~/t-secret").ok();
}
