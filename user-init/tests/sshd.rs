//! The real sshd under `serve`, as the unprivileged user. Needs root (to become that user, and to give it a name in a mount
//! namespace of the test's own) and an sshd: that of this machine, or of a folder of `bin` and `libexec`, as Nix has it, that
//! `TRAMPOLINE_TEST_OPENSSH` names. Without them it says so and proves nothing.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

mod common;

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use common::agent_process::World;
use contract::handshake::{Phase, SessionKind, StopAck, StopEnd, StopPhase, file};
use nix::sys::signal::Signal;

const UID: u32 = 1000;

fn sshd() -> PathBuf {
    std::env::var_os("TRAMPOLINE_TEST_OPENSSH")
        .map_or_else(|| "/usr/sbin/sshd".into(), |dir| Path::new(&dir).join("bin/sshd"))
}

/// For somebody else: the folder may be below a home.
fn reachable_sshd(root: &Path) -> PathBuf {
    let Some(dir) = std::env::var_os("TRAMPOLINE_TEST_OPENSSH") else { return sshd() };
    let copy = root.join("openssh");
    assert!(Command::new("cp").args(["-r", "--"]).arg(dir).arg(&copy).status().unwrap().success());
    fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
    copy.join("bin/sshd")
}

fn possible() -> bool {
    let possible = nix::unistd::geteuid().is_root() && sshd().exists();
    if !possible {
        eprintln!("skipped: needs root and {}", sshd().display());
    }
    possible
}

struct Login {
    world: World,
    port: u16,
}

impl Login {
    fn new() -> Self {
        // Not below /tmp: sshd refuses keys below a folder that everybody can write.
        let dir = tempfile::Builder::new().prefix("user-init-test-").tempdir_in("/var/lib").unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let mut world = World::below(dir);
        let bin = world.paths.default_profile().join("bin");
        for name in ["sshd", "ssh-keygen"] {
            fs::remove_file(bin.join(name)).unwrap();
        }
        symlink(reachable_sshd(world.root()), bin.join("sshd")).unwrap();
        for dir in [&world.paths.home, &world.paths.run_dir(contract::places::Container::User)] {
            chown(dir, Some(UID), Some(UID)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let root = world.root().to_owned();
        let key = root.join("key");
        let made =
            Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status();
        assert!(made.unwrap().success());
        let public = fs::read_to_string(key.with_extension("pub")).unwrap();
        fs::write(&world.paths.config, format!("[user]\nauthorized-keys = [{:?}]\n", public.trim())).unwrap();
        let passwd = format!(
            "root:x:0:0::/root:/bin/sh\nsshd:x:105:65534::/run/sshd:/bin/false\nnix:x:{UID}:{UID}::{}:/bin/bash\n",
            world.paths.home.display()
        );
        fs::write(root.join("passwd"), passwd).unwrap();

        let words = world.for_others(port);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-ec"]);
        command.arg("mount --bind \"$0\" /etc/passwd; exec setpriv --reuid 1000 --regid 1000 --clear-groups --no-new-privs \"$@\"");
        command.arg(root.join("passwd")).args(words);
        world.start_serve_as(command);
        world.until_phase(Phase::Running);
        let host_key = String::from_utf8(world.run(&["host-key"]).stdout).unwrap();
        fs::write(root.join("known_hosts"), format!("[127.0.0.1]:{port} {host_key}")).unwrap();
        Self { world, port }
    }

    fn client(&self, program: &str, user: &str) -> Command {
        let root = self.world.root();
        let mut command = Command::new(program);
        command.args([
            "-F",
            "none",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=yes",
            "-o",
            "IdentitiesOnly=yes",
        ]);
        // sshd may not listen yet when the agent already serves.
        command.args(["-o", "ConnectionAttempts=10", "-o", &format!("User={user}")]);
        command.args(["-o", &format!("UserKnownHostsFile={}", root.join("known_hosts").display())]);
        command.arg("-i").arg(root.join("key")).args(["-o", &format!("Port={}", self.port)]);
        command.stdin(Stdio::null());
        command
    }

    fn ssh(&self, words: &[&str]) -> Output {
        self.client("ssh", "nix").arg("127.0.0.1").args(words).output().unwrap()
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        // Killed, it would leave its sshd behind.
        self.world.leave();
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn logins() {
    if !possible() {
        return;
    }
    let login = Login::new();
    let output = login.ssh(&["echo $NIX_REMOTE; command -v nix; id -u; exit 9"]);
    let nix = login.world.paths.default_profile().join("bin/nix");
    assert_eq!(text(&output), format!("daemon\n{}\n1000\n", nix.display()));
    assert_eq!(output.status.code(), Some(9));

    let mut open =
        login.client("ssh", "nix").args(["127.0.0.1", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    login
        .world
        .until_activity(|a| a.sessions.iter().any(|s| s.kind == SessionKind::Ssh && s.command == "cat"));
    drop(open.stdin.take());
    assert!(open.wait().unwrap().success());
    login.world.until_activity(|a| a.sessions.is_empty());

    let wrong = login.client("ssh", "root").args(["127.0.0.1", "true"]).output().unwrap();
    assert_eq!(wrong.status.code(), Some(255), "{}", text(&wrong));
    assert!(
        text(&wrong).contains("Permission denied (publickey)"),
        "no other way is offered: {}",
        text(&wrong)
    );

    // Files by sftp, which is a session like any other.
    let file = login.world.paths.home.join("copied");
    let copied = login
        .client("scp", "nix")
        .arg(login.world.root().join("passwd"))
        .arg(format!("127.0.0.1:{}", file.display()))
        .output()
        .unwrap();
    assert!(copied.status.success() && file.exists(), "{}", text(&copied));
}

#[test]
fn without_a_key_it_is_said_how_to_add_one() {
    if !possible() {
        return;
    }
    let login = Login::new();
    let told = "trampoline-cli setup";
    assert!(!text(&login.ssh(&["true"])).contains(told));
    let keys = fs::read_to_string(&login.world.paths.config).unwrap();
    // Replaced as a whole, as the kubelet does it.
    let replace = |text: &str| {
        let new = login.world.paths.config.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(&new, &login.world.paths.config).unwrap();
    };
    let run = login.world.paths.run_dir(contract::places::Container::User);
    let banner = run.join("ssh_banner");
    // An empty one is taken for one that is being written.
    replace("# no key\n");
    login.world.until(&run, || banner.exists());
    let refused = login.ssh(&["true"]);
    assert_eq!(refused.status.code(), Some(255), "{}", text(&refused));
    assert!(text(&refused).contains(told), "{}", text(&refused));
    replace(&keys);
    login.world.until(&run, || !banner.exists());
    assert_eq!(text(&login.ssh(&["echo in"])), "in\n");
}

#[test]
fn aborted_connections_lock_nobody_out() {
    if !possible() {
        return;
    }
    let login = Login::new();
    assert!(login.ssh(&["true"]).status.success());
    for _ in 0..100 {
        drop(TcpStream::connect(("127.0.0.1", login.port)).unwrap());
    }
    for _ in 0..5 {
        assert_eq!(
            login.client("ssh", "nobody").args(["127.0.0.1", "true"]).output().unwrap().status.code(),
            Some(255)
        );
    }
    let held: Vec<_> = (0..30).map(|_| TcpStream::connect(("127.0.0.1", login.port)).unwrap()).collect();
    let output = login.ssh(&["echo in"]);
    assert_eq!(text(&output), "in\n");
    drop(held);
}

#[test]
fn a_stop_reaches_ssh() {
    if !possible() {
        return;
    }
    let mut login = Login::new();
    let mut open = login.client("ssh", "nix");
    open.args(["127.0.0.1", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut open = open.spawn().unwrap();
    let _stdin = open.stdin.take();
    login.world.until_activity(|a| !a.sessions.is_empty());
    login.world.signal(Signal::SIGTERM);
    login.world.until_phase(Phase::Draining);
    // Before a word is said: a client can wait, and say all of it to the builder that is started next.
    let refused = TcpStream::connect(("127.0.0.1", login.port)).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(login.ssh(&["true"]).status.code(), Some(255));
    login.world.stop(1, StopPhase::Final);
    let output = open.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(129));
    assert!(text(&output).contains("the builder stops: idle for 30m"), "{}", text(&output));
    assert_eq!(login.world.ended(), 0);
}

#[test]
fn who_comes_while_a_stop_is_decided_waits_and_is_let_in() {
    if !possible() {
        return;
    }
    let login = Login::new();
    let user = contract::places::Container::User;
    let asked = |generation: u64| {
        login.world.stop_with(StopEnd::AwaitSignal, login.world.life.clone(), generation, StopPhase::Ask);
        let ack = || login.world.own::<StopAck>(file::ACK).filter(|ack| ack.generation == generation);
        login.world.until(&login.world.paths.run_dir(user), || ack().is_some());
        ack().unwrap().work
    };
    let decided = |generation: u64, phase: StopPhase| {
        login.world.stop_with(StopEnd::AwaitSignal, login.world.life.clone(), generation, phase);
    };
    assert!(login.ssh(&["true"]).status.success());
    login.world.until_activity(|a| a.sessions.is_empty());

    // One who is past the listener counts, before anything of it is a session.
    let mut coming = TcpStream::connect(("127.0.0.1", login.port)).unwrap();
    coming.read_exact(&mut [0]).unwrap();
    assert_eq!(asked(1), 1);
    decided(1, StopPhase::Open);
    drop(coming);

    asked(2);
    let mut waiting = login.client("ssh", "nix");
    waiting.args(["127.0.0.1", "echo in"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let waiting = waiting.spawn().unwrap();
    let mut silent = TcpStream::connect(("127.0.0.1", login.port)).unwrap();
    decided(2, StopPhase::Open);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!(text(&output), "in\n");
    silent.read_exact(&mut [0]).unwrap();
    drop(silent);

    // Final, and yet somebody was faster than the engine. Who waited is told nothing, and can try again.
    asked(3);
    let mut silent = TcpStream::connect(("127.0.0.1", login.port)).unwrap();
    decided(3, StopPhase::Final);
    assert!(silent.read_exact(&mut [0]).is_err());
    assert_eq!(login.ssh(&["true"]).status.code(), Some(255));
    decided(3, StopPhase::Open);
    assert_eq!(text(&login.ssh(&["echo again"])), "again\n");
}
