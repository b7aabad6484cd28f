//! A real `serve` below a scratch folder, with stand-ins for the other containers' agents and programs.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use agent::files;
use agent::paths::Paths;
use agent::watch::DirWatch;
use contract::handshake::{
    AgentStatus, Life, Phase, Ready, StopEnd, StopPhase, StopRequest, UserActivity, file,
};
use contract::places::Container;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::de::DeserializeOwned;

/// Nothing here takes a second on a quiet machine; the tests share theirs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Understands its last word: what to do instead of building.
const NIX: &str = r#"#!/bin/bash
previous=; out=
for word; do [ "$previous" = --out-link ] && out=$word; previous=$word; done
echo "@nix begins in $PWD for $NIX_REMOTE" >&2
case $previous in
ok) ln -s /nix/store/aaa-ok "$out"; ln -s /nix/store/aaa-ok-dev "$out-dev"; echo /nix/store/aaa-ok ;;
links) ls -A; exit 1 ;;
fail) echo "no newline at the end" >&2; printf 'last words' >&2; exit 102 ;;
gate*) trap 'exit 1' INT; read -r line <>"$HOME/$previous"; echo "@nix $line" >&2 ;;
bytes)
  half() { for ((i = 0; i < 12000; i++)); do echo "@nix {\"line\":$i,\"text\":\"\\\"quoted\\\" ä\"}"; done; }
  half >&2; printf 'not \377 UTF-8\n\n' >&2; printf 'x%.0s' {1..300000} >&2
  read -r line <>"$HOME/bytes"
  printf '\n' >&2; half >&2; printf 'no end' >&2 ;;
stubborn) trap '' INT; read -r line <>"$HOME/gate" ;;
esac
"#;
const SSHD: &str =
    "#!/bin/bash\n[ \"$1\" = -t ] && exit 0\necho $$ >>\"${4%/*}/sshd.starts\"\nexec sleep infinity\n";
const KEYGEN: &str = "#!/bin/bash\nwhile [ $# -gt 1 ]; do shift; done\necho private >\"$1\"; echo ssh-ed25519 AAAAfake >\"$1.pub\"\n";

pub struct World {
    dir: tempfile::TempDir,
    pub paths: Paths,
    pub life: Life,
    port: u16,
    serve: Option<Child>,
}

fn script(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The program under test.
pub fn scratch_program() -> PathBuf {
    env!("CARGO_BIN_EXE_user-init-scratch").into()
}

/// Greets as nix-daemon does, for ever.
fn daemon(socket: &Path) {
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // Who goes in the middle is not our concern.
            let _ = stream.and_then(greet);
        }
    });
}

fn greet(mut stream: UnixStream) -> std::io::Result<()> {
    let mut magic = [0; 8];
    stream.read_exact(&mut magic)?;
    let mut said = Vec::new();
    for number in [0x6478_696f, 1 << 8 | 35] {
        said.extend_from_slice(&u64::to_le_bytes(number));
    }
    stream.write_all(&said)?;
    stream.read_exact(&mut [0; 24])?;
    let mut said = u64::to_le_bytes(6).to_vec();
    said.extend_from_slice(b"2.26.3\0\0");
    for number in [0, 0x616c_7473_u64] {
        said.extend_from_slice(&number.to_le_bytes());
    }
    stream.write_all(&said)
}

impl World {
    /// Everything there but `serve`; the daemon is ready.
    pub fn new() -> Self {
        Self::below(tempfile::tempdir().unwrap())
    }

    pub fn below(dir: tempfile::TempDir) -> Self {
        let paths = Paths::scratch(dir.path());
        for container in Container::ALL {
            fs::create_dir_all(paths.run_dir(container)).unwrap();
        }
        fs::create_dir_all(&paths.home).unwrap();
        fs::create_dir_all(paths.config.parent().unwrap()).unwrap();
        let bin = paths.default_profile().join("bin");
        script(&bin.join("nix"), NIX);
        script(&bin.join("sshd"), SSHD);
        script(&bin.join("ssh-keygen"), KEYGEN);
        let world = Self { life: agent::life::current(&paths).unwrap(), dir, paths, port: 2222, serve: None };
        let program =
            format!("#!/bin/bash\nexec {} {} \"$@\"\n", scratch_program().display(), world.arguments());
        script(&world.paths.image.join("bin/user-init"), &program);
        daemon(&world.paths.daemon_socket());
        world.publish_ready();
        world
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }

    /// A copy of the program that any user can start, listening on `port`; its command line as another user's.
    pub fn for_others(&mut self, port: u16) -> Vec<String> {
        self.port = port;
        let copy = self.paths.image.join("bin/scratch");
        fs::copy(scratch_program(), &copy).unwrap();
        let program = format!("#!/bin/bash\nexec {} {} \"$@\"\n", copy.display(), self.arguments());
        script(&self.paths.image.join("bin/user-init"), &program);
        let root = self.dir.path().display().to_string();
        vec![copy.display().to_string(), root, port.to_string(), "serve".into()]
    }

    fn arguments(&self) -> String {
        format!("{} {}", self.dir.path().display(), self.port)
    }

    pub fn publish_ready(&self) {
        let pid = i32::try_from(std::process::id()).unwrap();
        let ready = Ready {
            life: self.life.clone(),
            pid,
            start_time: agent::proc::start_time(&self.paths.proc, pid).unwrap().unwrap(),
            store_id: "s".into(),
            nix_version: "2.26.3".into(),
            image: "i".into(),
            isolation: None,
            at: 1,
        };
        files::write_json(&self.paths.run_dir(Container::Daemon), file::READY, &ready).unwrap();
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(scratch_program());
        command.arg(self.dir.path()).arg(self.port.to_string()).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Starts `serve` without waiting for it.
    pub fn start_serve(&mut self) {
        let command = self.command(&["serve"]);
        self.start_serve_as(command);
    }

    /// As [`Self::start_serve`], by another command line.
    pub fn start_serve_as(&mut self, mut command: Command) {
        let log = fs::File::create(self.root().join("serve.log")).unwrap();
        self.serve = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap());
    }

    /// Starts it and waits until it serves.
    pub fn serve(&mut self) {
        self.start_serve();
        self.until_phase(Phase::Running);
    }

    pub fn serve_pid(&self) -> i32 {
        i32::try_from(self.serve.as_ref().unwrap().id()).unwrap()
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.serve_pid()), signal).unwrap();
    }

    /// Lets it leave as a pod that is stopped, if it is still there.
    pub fn leave(&mut self) {
        if self.serve.is_some() {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            self.ended();
        }
    }

    /// Its exit code, once it has ended.
    pub fn ended(&mut self) -> i32 {
        let mut serve = self.serve.take().unwrap();
        ended_in_time(&mut serve).code().unwrap_or(-1)
    }

    pub fn run(&self, words: &[&str]) -> Output {
        self.run_with(words, b"")
    }

    pub fn run_with(&self, words: &[&str], input: &[u8]) -> Output {
        let mut child = self.command(words).stdin(Stdio::piped()).spawn().unwrap();
        // It may refuse before it has read everything.
        let _ = child.stdin.take().unwrap().write_all(input);
        child.wait_with_output().unwrap()
    }

    pub fn run_json<T: DeserializeOwned>(&self, words: &[&str], input: &[u8]) -> T {
        let output = self.run_with(words, input);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let last = text.lines().last();
        let json = last.and_then(|l| serde_json::from_str(l).ok());
        json.unwrap_or_else(|| panic!("{words:?}: {text} {}", String::from_utf8_lossy(&output.stderr)))
    }

    pub fn own<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        files::read_json(&self.paths.run_dir(Container::User).join(name)).unwrap()
    }

    pub fn activity(&self) -> UserActivity {
        self.own(file::ACTIVITY).unwrap()
    }

    pub fn until_phase(&self, phase: Phase) {
        self.until(&self.paths.run_dir(Container::User), || {
            self.own::<AgentStatus>(file::STATUS).is_some_and(|s| s.phase == phase)
        });
    }

    pub fn until_activity(&self, holds: impl Fn(&UserActivity) -> bool) {
        let dir = self.paths.run_dir(Container::User);
        self.until(&dir, || self.own::<UserActivity>(file::ACTIVITY).is_some_and(|a| holds(&a)));
    }

    /// Until `holds`, looked at whenever something in `dir` changes.
    pub fn until(&self, dir: &Path, holds: impl Fn() -> bool) {
        let mut watch = DirWatch::new().unwrap();
        watch.add(dir).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let log = fs::read_to_string(self.root().join("serve.log")).unwrap_or_default();
                panic!("waited for too long in {}; serve said: {log}", dir.display());
            }
            let mut fds = [PollFd::new(watch.fd().unwrap(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::try_from(left).unwrap()).unwrap();
            watch.drain();
        }
    }

    /// As the shutdown-monitor writes it.
    pub fn stop(&self, generation: u64, phase: StopPhase) {
        self.stop_of(self.life.clone(), generation, phase);
    }

    pub fn stop_of(&self, life: Life, generation: u64, phase: StopPhase) {
        self.stop_with(StopEnd::Leave, life, generation, phase);
    }

    pub fn stop_with(&self, end: StopEnd, life: Life, generation: u64, phase: StopPhase) {
        let request =
            StopRequest { life, generation, phase, end, reason: "idle for 30m".into(), last_activity: 0 };
        files::write_json(&self.paths.run_dir(Container::ShutdownMonitor), file::STOP, &request).unwrap();
    }

    /// A pipe in the home for the stand-in of `nix` to wait on.
    pub fn gate(&self, name: &str) -> PathBuf {
        let path = self.paths.home.join(name);
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        path
    }
}

/// Lets whoever waits at the gate through.
pub fn open_gate(path: &Path, text: &str) {
    let mut gate = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    writeln!(gate, "{text}").unwrap();
    // The text is lost when the last descriptor goes before the reader has come.
    std::mem::forget(gate);
}

/// Waits for a child with a limit: a thread of its own waits, and this one for the thread.
pub fn ended_in_time(child: &mut Child) -> std::process::ExitStatus {
    let (send, receive) = std::sync::mpsc::channel();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    let guard = std::thread::spawn(move || {
        if receive.recv_timeout(PATIENCE).is_err() {
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    });
    let status = child.wait().unwrap();
    let _ = send.send(());
    guard.join().unwrap();
    status
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(serve) = &mut self.serve {
            let _ = serve.kill();
            let _ = serve.wait();
        }
        // sshd's stand-in outlives a killed parent.
        let starts = fs::read_to_string(self.paths.run_dir(Container::User).join("sshd.starts"));
        for pid in starts.unwrap_or_default().lines().filter_map(|l| l.parse().ok()) {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == "sleep" {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
        }
    }
}
