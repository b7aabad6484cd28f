//! A real nix-daemon on a scratch store.
#![expect(clippy::unwrap_used, reason = "scaffolding of tests: what fails here fails the test")]

use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use worker_protocol::handshake;

const SOCKET: &str = "var/nix/daemon-socket/socket";
/// A daemon on an empty store begins in a fraction of a second.
const PATIENCE: Duration = Duration::from_secs(20);

/// The store and the daemon; both go with it. Its folder is what `/nix` is elsewhere.
pub(crate) struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    /// Starts the machine's own `nix-daemon` (package nix-bin) on an empty store below a scratch folder, without build users,
    /// sandbox or substituters.
    #[allow(dead_code, reason = "each test file is a crate of its own")]
    pub(crate) fn start() -> Self {
        Self::start_by(&[])
    }

    /// As [`Self::start`], by a program that becomes what stands behind its own arguments.
    pub(crate) fn start_by(by: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for made in ["store", "var/nix/daemon-socket", "etc"] {
            std::fs::create_dir_all(dir.path().join(made)).unwrap();
        }
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\n";
        std::fs::write(dir.path().join("etc/nix.conf"), conf).unwrap();
        let words = [by, &["nix-daemon"]].concat();
        let mut daemon = Self::command(dir.path(), words[0]);
        daemon.args(&words[1..]);
        // Without it a daemon that finds its socket and no writable state takes itself for its client, and forks for ever.
        daemon.env("NIX_REMOTE", "local").stdout(Stdio::null()).stderr(Stdio::piped());
        let child = daemon.spawn().expect("nix-daemon is needed: apt-get install nix-bin");
        let mut daemon = Self { dir, child };
        daemon.wait_until_it_listens();
        daemon
    }

    fn command(dir: &Path, program: &str) -> Command {
        let mut command = Command::new(program);
        for (name, place) in [
            ("NIX_STORE_DIR", "store"),
            ("NIX_STATE_DIR", "var/nix"),
            ("NIX_LOG_DIR", "log"),
            ("NIX_CONF_DIR", "etc"),
            ("NIX_DAEMON_SOCKET_PATH", SOCKET),
            ("HOME", "home"),
        ] {
            command.env(name, dir.join(place));
        }
        command.env("NIX_REMOTE", "daemon");
        command
    }

    /// The socket is bound before it listens, and the daemon says nothing when it does: a client that got through is the proof. Where
    /// nobody listens that fails at once, hence the loop. Who opens a store first makes it, and two at once are in each other's way:
    /// so the greeting, which comes when the store is open, is waited for.
    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let mut stream = loop {
            if let Ok(stream) = UnixStream::connect(self.socket()) {
                break stream;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "nix-daemon has ended");
            assert!(Instant::now() < deadline, "nix-daemon does not listen");
            std::thread::yield_now();
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        handshake(&mut stream).expect("nix-daemon has opened its store");
        // From now on its words are of no interest; without a reader it would block on a full pipe.
        let words = BufReader::new(self.child.stderr.take().unwrap());
        std::thread::spawn(move || words.lines().map_while(Result::ok).for_each(drop));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// What is `/nix` elsewhere.
    pub(crate) fn nix(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a file to the store and returns its path.
    pub(crate) fn add(&self, name: &str, content: &[u8]) -> String {
        let file = self.dir.path().join(name);
        std::fs::write(&file, content).unwrap();
        self.nix_store(&["--add", file.to_str().unwrap()])
    }

    /// Makes `path` a root.
    #[allow(dead_code, reason = "each test file is a crate of its own")]
    pub(crate) fn root(&self, path: &str) {
        let link = self.dir.path().join("var/nix/gcroots/kept");
        std::os::unix::fs::symlink(path, link).unwrap();
    }

    /// `nix-store`, speaking to the daemon.
    pub(crate) fn client(&self, args: &[&str]) -> Command {
        let mut client = Self::command(self.nix(), "nix-store");
        client.args(args);
        client
    }

    /// Another program of Nix's, speaking to the daemon.
    #[allow(dead_code, reason = "each test file is a crate of its own")]
    pub(crate) fn program(&self, name: &str) -> Command {
        Self::command(self.nix(), name)
    }

    pub(crate) fn nix_store(&self, args: &[&str]) -> String {
        let out = self.client(args).output().unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
