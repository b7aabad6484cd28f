//! `user-init session`: one way in. It asks `serve`, runs what was asked for with its own descriptors (no byte is copied), and
//! holds the connection to `serve` meanwhile.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::handshake::SessionKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, tcgetpgrp};

use crate::Place;
use crate::control::{Client, Reply, Request};
use crate::environment;
use crate::error::{Error, Result, io_error};
use crate::project::Project;

/// From SIGHUP to SIGKILL when the builder stops. Within what `serve` waits for its sessions.
const HANG_UP: Duration = Duration::from_secs(3);
/// As shells do.
const NOT_FOUND: u8 = 127;
/// Longest command that is told, bytes: what Nix runs at the other end of ssh is told apart by its last words.
const TOLD: usize = 4 << 10;

/// What was asked for.
#[derive(Debug)]
pub struct Asked {
    /// How it came.
    pub kind: SessionKind,
    /// Where to start; the home without one.
    pub project: Option<String>,
    /// Of the project; the current one without.
    pub generation: Option<u64>,
    /// A login shell if empty (and sshd has none either).
    pub command: Vec<String>,
    /// Whoever is to be told that it was let in.
    pub begun: Option<Begun>,
}

/// Where a client waits for one byte: then the session was let in, so that its command may have run.
#[derive(Debug)]
pub struct Begun(File);

impl Begun {
    /// What was handed over as this descriptor, which is closed: the command must not have it.
    ///
    /// # Errors
    /// When it is none to which one can write.
    pub fn handed_over(descriptor: RawFd) -> io::Result<Self> {
        let file = File::options().write(true).open(format!("/proc/self/fd/{descriptor}"))?;
        nix::unistd::close(descriptor)?;
        Ok(Self(file))
    }

    fn tell(mut self) {
        // Nobody may be there to read it.
        let _ = self.0.write_all(&[1]);
    }
}

/// Signals of a session: a handler that does nothing and not "ignore", which the child would inherit.
struct Caught {
    pipe: UnixStream,
    flags: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Caught {
    fn install() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let flag = |signal: Signal| {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal as i32, Arc::clone(&flag))?;
            Ok((signal, flag))
        };
        // The strongest first.
        let signals = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGINT];
        let flags = signals.into_iter().map(flag).collect::<io::Result<_>>()?;
        for signal in signals.into_iter().chain([Signal::SIGCHLD]) {
            signal_hook::low_level::pipe::register(signal as i32, write.try_clone()?)?;
        }
        Ok(Self { pipe, flags })
    }

    /// What to pass on. In a terminal SIGINT and SIGQUIT come from a key, and whoever is in its foreground has them.
    fn drain(&self, terminal: bool) -> Option<Signal> {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(n) if n > 0) {}
        let came = self.flags.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
        let came: Vec<Signal> = came.map(|(signal, _)| *signal).collect();
        came.into_iter().find(|signal| !terminal || !matches!(signal, Signal::SIGINT | Signal::SIGQUIT))
    }
}

/// Runs it to its end.
///
/// # Errors
/// When it is not admitted or cannot be started.
pub fn run(place: &Place, asked: Asked) -> Result<u8> {
    let config = crate::commands::config(place);
    let dir = folder(place, &asked)?;
    let words = words(&asked);
    let caught = Caught::install().map_err(io_error("catch signals for", &dir))?;
    let request = Request::Session { kind: asked.kind, command: told(&words) };
    let (mut client, _) = Client::ask(&place.paths.control_socket(), &request, say)?;
    if let Some(begun) = asked.begun {
        begun.tell();
    }
    environment::limit_processes(&config);
    let shell = environment::shell(&place.paths);
    let mut command = match &words {
        Words::Login => {
            let mut command = Command::new(&shell);
            // A login shell by the old sign: its name begins with a dash.
            let name = shell.file_name().unwrap_or_default().to_string_lossy();
            command.arg0(format!("-{name}"));
            command
        }
        Words::Line(line) => {
            let mut command = Command::new(&shell);
            command.arg("-c").arg(line);
            command
        }
        Words::List(list) => {
            let mut command = Command::new(&list[0]);
            command.args(&list[1..]);
            command
        }
    };
    command.current_dir(&dir).envs(environment::variables(&place.paths, &config)).env("SHELL", &shell);
    command.env_remove("SSH_ORIGINAL_COMMAND");
    // In a terminal the child shares our group, the foreground one; elsewhere a group of its own lets us reach all of it.
    let terminal = io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal();
    if !terminal {
        command.process_group(0);
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(e) => {
            say(&format!("{}: {e}", command.get_program().to_string_lossy()));
            return Ok(NOT_FOUND);
        }
    };
    wait(&mut child, &mut client, &caught, terminal).map_err(io_error("wait for a command in", &dir))
}

fn say(text: &str) {
    // Nobody may be there to read it.
    let _ = writeln!(io::stderr(), "trampoline: {text}");
}

fn folder(place: &Place, asked: &Asked) -> Result<PathBuf> {
    let Some(name) = &asked.project else {
        if asked.generation.is_some() {
            return Err(Error::Usage("--generation needs --project".into()));
        }
        return Ok(place.paths.home.clone());
    };
    let project = Project::new(&place.paths.projects(), name)?;
    Ok(project.tree(project.pick(asked.generation)?))
}

/// What runs.
enum Words {
    Login,
    /// For a shell, as sshd hands it over.
    Line(String),
    List(Vec<String>),
}

fn words(asked: &Asked) -> Words {
    if !asked.command.is_empty() {
        return Words::List(asked.command.clone());
    }
    let original = std::env::var("SSH_ORIGINAL_COMMAND").ok().filter(|_| asked.kind == SessionKind::Ssh);
    original.map_or(Words::Login, Words::Line)
}

fn told(words: &Words) -> String {
    let text = match words {
        Words::Login => String::new(),
        Words::Line(line) => line.clone(),
        Words::List(list) => list.join(" "),
    };
    shortened(text, TOLD)
}

/// To so many bytes.
pub(crate) fn shortened(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

fn wait(child: &mut Child, client: &mut Client, caught: &Caught, terminal: bool) -> io::Result<u8> {
    let mut serving = true;
    let mut ended_from_without = false;
    let mut kill_at: Option<Instant> = None;
    loop {
        if let Some(status) = child.try_wait()? {
            if ended_from_without && !terminal {
                // Shells let what they run in the background ignore the interrupt key, and whoever holds our output keeps
                // a cluster from telling the client that the command has ended.
                send(child, Signal::SIGTERM, terminal);
            }
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            return Ok(u8::try_from(code).unwrap_or(u8::MAX));
        }
        let mut fds = vec![PollFd::new(caught.pipe.as_fd(), PollFlags::POLLIN)];
        if serving {
            fds.push(PollFd::new(client.as_fd(), PollFlags::POLLIN));
        }
        let timeout = kill_at.map_or(PollTimeout::NONE, |at| {
            let left = at.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let told = serving && fds[1].any().unwrap_or(false);
        if let Some(signal) = caught.drain(terminal) {
            send(child, signal, terminal);
            ended_from_without = true;
        }
        if told {
            match client.reply() {
                Ok(Some(Reply::Leave { message })) => {
                    say(&message);
                    send(child, Signal::SIGHUP, terminal);
                    kill_at = Some(Instant::now() + HANG_UP);
                }
                // The terminal may be in raw mode.
                Ok(Some(Reply::Notice { message })) if terminal => say(&format!("{message}\r")),
                Ok(Some(_)) => {}
                // `serve` is gone; the container goes with it.
                Ok(None) | Err(_) => serving = false,
            }
        }
        if kill_at.is_some_and(|at| Instant::now() >= at) {
            send(child, Signal::SIGKILL, terminal);
            kill_at = Some(Instant::now() + HANG_UP);
        }
    }
}

/// To the child and what it started: its group, or, in a terminal, whatever is in the foreground.
fn send(child: &Child, signal: Signal, terminal: bool) {
    let Ok(id) = i32::try_from(child.id()) else { return };
    let pid = Pid::from_raw(id);
    // Each may have ended by now.
    if terminal {
        if let Ok(foreground) = tcgetpgrp(io::stdin()) {
            if foreground != nix::unistd::getpgrp() {
                let _ = killpg(foreground, signal);
            }
        }
        let _ = kill(pid, signal);
        if signal == Signal::SIGHUP {
            // An interactive shell that is stopped or ignores it wakes up for it.
            let _ = kill(pid, Signal::SIGCONT);
        }
    } else {
        let _ = killpg(pid, signal);
    }
}

/// Sends a signal to the session that was started with `--id ID`, for a client that has none of its terminals.
///
/// # Errors
/// When `/proc` cannot be read, or the signal is none that a session passes on.
pub fn signal(place: &Place, id: &str, name: &str) -> Result<()> {
    let signal = match name {
        "int" => Signal::SIGINT,
        "term" => Signal::SIGTERM,
        "hup" => Signal::SIGHUP,
        other => return Err(Error::Usage(format!("a signal is int, term or hup, not {other:?}"))),
    };
    let proc = &place.paths.proc;
    let wanted = format!("\0--id\0{id}\0");
    for entry in std::fs::read_dir(proc).map_err(io_error("read", proc))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has ended by now, or is somebody else's, is not the one.
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // Whatever runs in the session may show the same words, but not before the command's own dashes.
        let ours = String::from_utf8_lossy(&words);
        let ours = ours.split("\0--\0").next().unwrap_or_default();
        if ours.contains("\0session\0") && format!("{ours}\0").contains(&wanted) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
    Ok(())
}
