//! `nix-daemon` as a child: start it, ask it whether it serves, end its listener.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::signals::Signal;
use agent::wait::{Waiter, Wake};
use agent::{files, ready};
use contract::config::Config;
use contract::places::Container;
use nix::sys::signal::{Signal as Number, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::{build_dir, keys};

/// Between bind(2), which is told, and listen(2), which is not, a connection is refused for a moment.
const LISTENS: Duration = Duration::from_millis(20);
/// For another listener beside one that serves.
const REPLACE: Duration = Duration::from_secs(20);

/// Starting or asking it failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not in the image, or not executable.
    #[error("start {}", program.display())]
    Start {
        /// Its path.
        program: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It ended before it answered.
    #[error("nix-daemon ended at once ({0}): its own words are above in this container's log")]
    Ended(String),
    /// It never answered.
    #[error("nix-daemon did not answer on {} within {} s", socket.display(), after.as_secs())]
    Silent {
        /// Where it was asked.
        socket: PathBuf,
        /// How long.
        after: Duration,
        /// What the last attempt gave.
        source: io::Error,
    },
    /// SIGTERM while it started.
    #[error("asked to leave while nix-daemon started")]
    Terminated,
    /// The settings for it could not be written.
    #[error("write nix-daemon's settings")]
    Settings(#[from] files::Error),
    /// Of the operating system.
    #[error("wait for nix-daemon")]
    Io(#[from] io::Error),
}

/// Writes the settings that nix.conf includes.
///
/// # Errors
/// When the run volume cannot be written.
pub fn write_settings(paths: &Paths, config: &Config) -> Result<(), files::Error> {
    let capacity = agent::cgroup::capacity("/sys/fs/cgroup".as_ref(), &paths.proc);
    let text = contract::config::nix_conf(config, capacity);
    files::write_bytes(&paths.run_dir(Container::Daemon), "nix.conf", 0o644, text.as_bytes())
}

/// Starts the listener and returns its pid. It forks a process per connection; those become our children when it ends,
/// because we are a subreaper.
///
/// # Errors
/// When it cannot be started.
pub fn start(paths: &Paths, config: &Config) -> Result<Pid, Error> {
    // A socket left by an earlier life would answer "connection refused" and tell nothing.
    files::withdraw(&paths.daemon_socket())?;
    if let Some(dir) = paths.daemon_socket().parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)?;
    }
    spawn(paths, config)
}

fn spawn(paths: &Paths, config: &Config) -> Result<Pid, Error> {
    let program = paths.default_profile().join("bin/nix-daemon");
    let mut settings = std::env::var("NIX_CONFIG").unwrap_or_default();
    settings.push('\n');
    settings.push_str(&keys::signing_setting(paths));
    let mut command = Command::new(&program);
    let build = build_dir::of(&paths.build);
    if build.is_dir() {
        settings.push_str(&format!("\nbuild-dir = {}\n", build.display()));
        // Of a Nix that does not know the setting.
        command.env("TMPDIR", build);
    }
    let child = command
        // The default. Over its first argument each worker writes the process id of whom it serves, so that it can be told whose it is.
        .arg("--daemon")
        // The image's environment may name the daemon itself, and `auto` takes an existing socket for another daemon's: it would
        // become its own client and fork without end.
        .env("NIX_REMOTE", "local")
        .env("NIX_CONFIG", settings)
        // Meant for this process alone.
        .env_remove("MALLOC_ARENA_MAX")
        .env_remove("MALLOC_MMAP_THRESHOLD_")
        .envs(contract::config::environment(config))
        .stdin(Stdio::null())
        .spawn()
        .map_err(|source| Error::Start { program, source })?;
    // Reaped by pid together with its orphans, so the handle is not needed.
    Ok(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)))
}

/// Lets another listener, which reads the settings anew, take the place of `old`: it puts its socket where that of the other is,
/// so that nobody is refused for longer than between bind(2) and listen(2). Connections go on.
///
/// # Errors
/// When it does not answer; then `old` serves on, or, if its socket is gone, ends.
pub fn replace(paths: &Paths, config: &Config, waiter: &mut Waiter<'_>, old: Pid) -> Result<Pid, Error> {
    let before = inode(paths);
    let new = spawn(paths, config)?;
    let Err(error) = await_listener(paths, waiter, new, REPLACE, before) else {
        end_listener(old);
        return Ok(new);
    };
    end_listener(new);
    if inode(paths) != before {
        end_listener(old);
    }
    Err(error)
}

/// Of the socket; the file of one that somebody holds open keeps its number.
fn inode(paths: &Paths) -> Option<u64> {
    fs::symlink_metadata(paths.daemon_socket()).ok().map(|meta| meta.ino())
}

/// Waits until it speaks its protocol; returns its version.
///
/// # Errors
/// See [`Error`].
pub fn await_answer(
    paths: &Paths,
    waiter: &mut Waiter<'_>,
    daemon: Pid,
    timeout: Duration,
) -> Result<String, Error> {
    await_listener(paths, waiter, daemon, timeout, None)
}

/// The same, where `other` is the socket of another listener.
fn await_listener(
    paths: &Paths,
    waiter: &mut Waiter<'_>,
    daemon: Pid,
    timeout: Duration,
    other: Option<u64>,
) -> Result<String, Error> {
    let socket = paths.daemon_socket();
    if let Some(dir) = socket.parent() {
        waiter.watch_dir(dir)?;
    }
    let deadline = Instant::now() + timeout;
    loop {
        let answer = if other.is_some() && inode(paths) == other {
            Err(io::Error::other("the socket is still that of the other listener"))
        } else {
            ready::ask_daemon(paths)
        };
        let source = match answer {
            Ok(version) => return Ok(version),
            Err(error) => error,
        };
        let pause = match source.kind() {
            io::ErrorKind::ConnectionRefused => LISTENS,
            _ => ready::AGAIN,
        };
        match waiter.wait(Some(deadline.min(Instant::now() + pause)))? {
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => return Err(Error::Terminated),
            Wake::Signals(seen) if seen.contains(&Signal::Child) => {
                if let Some((_, how)) = reap().into_iter().find(|(pid, _)| *pid == daemon) {
                    return Err(Error::Ended(how));
                }
            }
            Wake::Deadline if Instant::now() >= deadline => {
                return Err(Error::Silent { socket, after: timeout, source });
            }
            _ => {}
        }
    }
}

/// Takes the statuses of all children that have ended: `(pid, how)`.
#[must_use]
pub fn reap() -> Vec<(Pid, String)> {
    let mut ended = Vec::new();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => ended.push((pid, format!("exit code {code}"))),
            Ok(WaitStatus::Signaled(pid, signal, _)) => ended.push((pid, format!("signal {signal}"))),
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => {}
        }
    }
}

/// Ends the listener alone: new connections are refused, running builds go on in their own processes.
pub fn end_listener(daemon: Pid) {
    if let Err(error) = kill(daemon, Number::SIGTERM) {
        tracing::debug!(%error, "nix-daemon had ended already");
    }
}

/// Ends what is left of it: the processes that serve connections are our children now. Returns how many.
pub fn end_workers(paths: &Paths) -> usize {
    let me = nix::unistd::getpid().as_raw();
    let Ok(processes) = agent::proc::processes(&paths.proc) else { return 0 };
    let children = processes.iter().filter(|(_, _, stat)| stat.ppid == me && stat.state != 'Z');
    children.filter(|(pid, ..)| kill(Pid::from_raw(*pid), Number::SIGTERM).is_ok()).count()
}
