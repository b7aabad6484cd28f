//! `user-init session`: one way in. It asks `serve`, runs what was asked for with its own descriptors (no byte is copied), and
//! holds the connection to `serve` meanwhile.

mod begun;
mod signals;

use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::handshake::SessionKind;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use crate::Place;
use crate::control::{Client, Reply, Request};
use crate::environment;
use crate::error::{Error, Result, io_error};
use crate::project::Project;

pub use begun::Begun;
pub use signals::signal;
use signals::{Caught, send};

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
    let (mut client, _) = match Client::ask(&place.paths.control_socket(), &request, say) {
        Err(Error::Stopping(why)) => {
            let Some(begun) = asked.begun else { return Err(Error::Stopping(why)) };
            // Whoever waits for more knows by this, and says what comes of that.
            begun.tell_of_refusal();
            return Ok(Exit::Stopping.code());
        }
        admitted => admitted?,
    };
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
