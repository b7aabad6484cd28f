//! The builder as a host of OpenSSH.

use std::net::TcpStream;
use std::path::PathBuf;

use contract::places::SSH_PORT;
use e2e::builder::Builder;
use e2e::call::Call;
use e2e::person::Person;
use e2e::setting::setting;

use crate::shared;

crate::scenarios! {
    Any: [
        ssh_git_rsync_and_scp_work_through_the_host_block,
    ],
    Root: [
        aborted_connections_lock_nobody_out,
        key_of_any_name_is_offered_and_clean_takes_the_ssh_entries_away,
    ],
}

/// The Host block: where ssh looks by itself is decided by the password file, not by `HOME`.
pub(crate) fn block(builder: &Builder) -> PathBuf {
    builder.cli(["ssh-config"]).run().ok();
    let file = builder.person().home().join(".ssh/trampoline").join(format!("{}.conf", builder.name()));
    assert!(file.is_file(), "{}", file.display());
    file
}

pub(crate) fn ssh(builder: &Builder, line: &str) -> Call {
    builder.call("ssh").arg("-F").arg(block(builder)).args([builder.name(), "--", line])
}

fn ssh_git_rsync_and_scp_work_through_the_host_block() {
    let builder = shared::builder();
    let printed = builder.cli(["ssh-config", "--stdout"]).run().ok();
    assert!(printed.stdout.contains("StrictHostKeyChecking yes"), "{printed}");
    let version =
        ssh(builder, "nix --version; nix store ping --extra-experimental-features nix-command").run().ok();
    assert!(version.stdout.starts_with("nix (Nix)"), "{version}");
    assert!((version.stdout.clone() + &version.stderr).contains("daemon"), "talks to the daemon: {version}");
    ssh(builder, "exit 7").run().ended(7);
    builder.cli(["ssh", "--", "exit", "9"]).run().ended(9);
    let typed = builder.cli(["ssh"]).run().ok();
    assert!(typed.text().starts_with("ssh ") && typed.text().ends_with(builder.name()), "{typed}");

    let file = block(builder);
    let name = builder.name();
    let command = format!("ssh -F {}", file.display());
    let tree = builder.checkout("over-ssh", &[("file", "by git\n")]);
    ssh(builder, "git init -q --bare over-ssh.git").run().ok();
    let git = |args: &[&str]| tree.call("git").env("GIT_SSH_COMMAND", &command).args(args).run().ok();
    git(&["push", "-q", &format!("{name}:over-ssh.git"), "main"]);
    git(&["clone", "-q", "-b", "main", &format!("{name}:over-ssh.git"), "../over-ssh-back"]);
    assert_eq!(
        std::fs::read_to_string(tree.dir().join("../over-ssh-back/file")).ok().as_deref(),
        Some("by git\n")
    );

    for (program, to, back) in [("rsync", "by-rsync", "rsync-back"), ("scp", "by-scp", "scp-back")] {
        let call = || match program {
            "rsync" => tree.call("rsync").args(["-a", "-e", &command]),
            _ => tree.call("scp").args(["-q", "-F"]).arg(&file),
        };
        call().args(["file", &format!("{name}:{to}")]).run().ok();
        call().args([&format!("{name}:{to}"), back]).run().ok();
        assert_eq!(
            std::fs::read_to_string(tree.dir().join(back)).ok().as_deref(),
            Some("by git\n"),
            "{program}"
        );
    }

    // Another host key is refused, and so is whoever has no key of the builder's.
    let known = printed.stdout.lines().find_map(|line| line.trim().strip_prefix("UserKnownHostsFile "));
    let pinned = std::fs::read_to_string(known.expect("the block names it")).expect("it was written");
    assert_eq!(pinned.lines().count(), 1, "{pinned}");
    let wrong = builder.person().home().join("wrong_hosts");
    let another = pinned.replacen("AAAAC3NzaC1lZDI1NTE5AAAAI", "AAAAC3NzaC1lZDI1NTE5AAAAJ", 1);
    std::fs::write(&wrong, another).expect("a folder of ours");
    let other = format!("UserKnownHostsFile={}", wrong.display());
    builder.call("ssh").arg("-F").arg(&file).args(["-o", &other, name, "--", "true"]).run().ended(255);
    let keyless = ["-o", "PubkeyAuthentication=no", "-o", "BatchMode=yes", name, "--", "true"];
    builder.call("ssh").arg("-F").arg(&file).args(keyless).run().ended(255);
}

fn aborted_connections_lock_nobody_out() {
    let builder = shared::builder();
    match builder.status()["ssh_port"].as_u64().and_then(|port| u16::try_from(port).ok()) {
        Some(port) => {
            for _ in 0..100 {
                drop(TcpStream::connect(("127.0.0.1", port)).expect("sshd listens"));
            }
        }
        // The way through an API server ends at the pod's own port.
        None => {
            let line =
                format!("for n in {{1..100}}; do exec 3<>/dev/tcp/127.0.0.1/{SSH_PORT} && exec 3>&-; done");
            builder.cli(["shell", "--", "bash", "-ec", &line]).run().ok();
        }
    }
    assert_eq!(ssh(builder, "echo in").run().ok().text(), "in");
}

fn key_of_any_name_is_offered_and_clean_takes_the_ssh_entries_away() {
    let builder = Builder::new(Person::with_key("id_work"), &[]);
    builder.cli(["setup"]).run().ok();
    builder.cli(["ssh", "--", "true"]).run().ok();
    assert_eq!(ssh(&builder, "echo in").run().ok().text(), "in");
    let config = builder.person().ssh_config();
    std::fs::write(&config, "Host mine\n    HostName example.org\n").expect("a folder of ours");
    let file = block(&builder);
    let with = std::fs::read_to_string(&config).expect("it is there");
    assert!(with.starts_with("Include ") && with.contains("Host mine"), "{with}");
    builder.clean().ok();
    assert!(!file.exists());
    assert_eq!(
        std::fs::read_to_string(&config).expect("it is there"),
        "Host mine\n    HostName example.org\n"
    );
    assert_eq!(setting().engine.left(builder.name()), [""; 0]);
}
