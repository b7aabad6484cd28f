//! A real nix-daemon on a chroot store, building in its sandbox.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

/// nix-daemon on the store below a root, and who speaks to it.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
    socket: PathBuf,
}

impl Daemon {
    /// `substituters`: a line of nix.conf. What they have needs no signature.
    pub(crate) fn start(root: &Path, substituters: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let conf = format!(
            "build-users-group =\nsandbox = true\nsandbox-fallback = false\nsubstituters = {substituters}\n\
             sandbox-paths = /bin /lib /lib64 /usr\nrequire-sigs = false\n"
        );
        fs::write(dir.path().join("nix.conf"), conf).unwrap();
        let expression = "{ n }: derivation { name = \"built-${n}\"; system = builtins.currentSystem; builder = \"/bin/sh\";\n\
            args = [ \"-c\" \"/bin/mkdir $out; for i in 1 2 3; do /usr/bin/head -c 20000 /dev/urandom > $out/$i; done\" ]; }";
        fs::write(dir.path().join("built.nix"), expression).unwrap();
        let store = format!("local?root={}", root.display());
        let socket = root.join("nix/var/nix/daemon-socket/socket");
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let mut daemon = command(dir.path(), &socket, "nix-daemon");
        let child = daemon.env("NIX_REMOTE", store).stderr(Stdio::null()).spawn();
        let child = child.expect("nix-daemon is needed: apt-get install nix-bin");
        let daemon = Self { child, dir, socket };
        let end = Instant::now() + PATIENCE;
        while UnixStream::connect(&daemon.socket).is_err() {
            assert!(Instant::now() < end, "nix-daemon does not listen");
            std::thread::yield_now();
        }
        daemon
    }

    fn client(&self, program: &str) -> Command {
        command(self.dir.path(), &self.socket, program)
    }

    /// A folder with some files, as a copy or a push brings it.
    pub(crate) fn add(&self, n: u32) {
        let tree = self.dir.path().join(format!("added-{n}"));
        fs::create_dir(&tree).unwrap();
        for file in 0..8 {
            let content = format!("{n} {file} ").repeat(2000);
            fs::write(tree.join(file.to_string()), content).unwrap();
        }
        must_work(self.client("nix-store").arg("--add").arg(&tree));
    }

    pub(crate) fn build(&self, n: u32) {
        let file = self.dir.path().join("built.nix");
        must_work(
            self.client("nix-build").args(["--no-out-link", "--argstr", "n", &n.to_string()]).arg(file),
        );
    }
}

fn command(dir: &Path, socket: &Path, program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("NIX_CONF_DIR", dir).env("NIX_REMOTE", "daemon").env("HOME", dir);
    command.env("NIX_DAEMON_SOCKET_PATH", socket).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn must_work(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
