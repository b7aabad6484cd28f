//! `user-init serve`: the agent. One thread, one loop: whatever happens (a connection, a signal, a file of another agent, a
//! deadline) wakes it, and nothing else does.

mod activity;
mod admission;
mod connection;
mod door;
mod events;
mod in_use;
mod memory;
mod queue;
mod refusal;
mod room;
mod server;
mod tidy;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::config::Watched;
use agent::entry;
use agent::paths::Paths;
use agent::signals::{Signal, Signals};
use agent::status::{Reporter, chain};
use agent::wait::{Waiter, Wake};
use contract::exit::Exit;
use contract::handshake::{Life, Phase};
use contract::places::Container;

use crate::error::{Error, Result, io_error};
use crate::ssh::{self, Prepared};
use crate::{Place, environment, home};

pub use admission::Admission;
use server::Server;

const CONTAINER: Container = Container::User;

/// The whole life; the exit code says how it ended.
#[must_use]
pub fn run(place: &Place) -> Exit {
    entry::serve(&place.paths, CONTAINER, env!("CARGO_PKG_VERSION"), |life, signals, reporter| {
        match live(place, life, signals, reporter) {
            Ok(()) => Ok("ended as asked".to_owned()),
            Err(error) => Err((error.exit(), chain(&error))),
        }
    })
}

fn live(place: &Place, life: &Life, signals: &Signals, reporter: &mut Reporter) -> Result<()> {
    let paths = &place.paths;
    let config = Watched::load(&paths.config)?;
    agent::log::init(&config.config().log);
    harden(&config);
    let timeout = config.config().daemon.ready_timeout;
    let deadline = Instant::now() + timeout;
    let waiting = || io_error("wait for a change in", &paths.run);
    let mut waiter = Waiter::new(signals).map_err(waiting())?;
    wait_for_folder(paths, &mut waiter, deadline)?;
    reporter.config(config.digest(), None);
    reporter.phase(Phase::Starting, format!("waits for the daemon, for {} at most", seconds(timeout)));
    agent::ready::wait_ready(paths, life, &mut waiter, deadline)?;

    reporter.phase(Phase::Starting, "prepares the home and sshd");
    home::prepare(paths)?;
    let sshd = prepare_sshd(place, &config)?;
    let socket = paths.control_socket();
    let listener = agent::control::listen(&socket, 0o600).map_err(io_error("listen on", &socket))?;
    let mut server = Server::new(place, life, config, reporter, waiter, listener, sshd);
    server.serve()
}

/// What holds for this process and all that it starts.
fn harden(config: &Watched) {
    environment::limit_processes(config.config());
    // Sessions have our id: they must not read our memory or steal the listening socket.
    if let Err(error) = nix::sys::prctl::set_dumpable(false) {
        tracing::warn!(error = %error, "this process can be read by the user's others");
    }
    // What outlives its parent is ours to reap, as PID 1 is not ours.
    if let Err(error) = nix::sys::prctl::set_child_subreaper(true) {
        tracing::warn!(error = %error, "orphans are reaped by PID 1");
    }
}

fn seconds(duration: Duration) -> String {
    contract::config::format_duration(duration)
}

/// daemon-init makes our folder on the run volume; on podman it may start after us.
fn wait_for_folder(paths: &Paths, waiter: &mut Waiter<'_>, deadline: Instant) -> Result<()> {
    let dir = paths.run_dir(CONTAINER);
    let own = nix::unistd::geteuid().as_raw();
    let ours = |dir: &Path| fs::symlink_metadata(dir).is_ok_and(|m| m.is_dir() && m.uid() == own);
    waiter.watch_dir(&paths.run).map_err(io_error("watch", &paths.run))?;
    // It appears complete, by a rename.
    while !ours(&dir) {
        match waiter.wait(Some(deadline)).map_err(io_error("wait for", &dir))? {
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => {
                return Err(agent::ready::Error::Terminated.into());
            }
            Wake::Deadline => {
                return Err(Error::Deadline(format!("daemon-init did not make {} in time", dir.display())));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Without sshd in the image everything else still works; that it is broken is an error.
fn prepare_sshd(place: &Place, config: &Watched) -> Result<Option<Prepared>> {
    if environment::find(&place.paths, "sshd").is_none() {
        tracing::warn!("the image has no sshd: nobody can come in by ssh");
        return Ok(None);
    }
    ssh::prepare(place, config.config()).map(Some)
}

/// The kernel's boot, for trees that are not synced to disk.
pub(crate) fn boot_id(paths: &Paths) -> Result<String> {
    let path = paths.proc.join("sys/kernel/random/boot_id");
    fs::read_to_string(&path).map(|id| id.trim().to_owned()).map_err(io_error("read", &path))
}
