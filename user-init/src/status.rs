//! `user-init status` and `await`: what the pod publishes, in one object. Is no session and no activity.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::signals::{Signal, Signals};
use agent::wait::{Waiter, Wake};
use contract::config::Config;
use contract::handshake::{BuilderStatus, Life, Phase};
use contract::places::Container;
use nix::sys::resource::RLIM_INFINITY;
use nix::sys::stat::{SFlag, fstat};

use crate::error::{Error, Result, io_error};
use crate::{Place, environment, ssh};

/// Longer than the agents wait for each other, who then say what they waited for.
const LATER: Duration = Duration::from_secs(30);
/// A kubelet that takes no notice of what it is told looks at a ConfigMap once in a minute or so.
const CONFIGURED: Duration = Duration::from_secs(150);

/// Assembles it.
#[must_use]
pub fn assemble(paths: &Paths, life: &Life, config: &Config) -> BuilderStatus {
    let group = agent::cgroup::limits(Path::new("/sys/fs/cgroup")).pids;
    let own = environment::process_limit(config);
    let limit = group.map_or(own, |g| g.min(own));
    agent::published::status(paths, life, (limit != RLIM_INFINITY).then_some(limit))
}

/// Prints what the pod publishes whenever it changes, until sessions are served or an agent has failed: the last line tells
/// which. Before a last line that tells of serving, `keys` have been added.
///
/// # Errors
/// When neither comes in time, the keys are none, or whoever reads is gone.
pub fn until_served(place: &Place, keys: Option<&str>, out: &mut (impl Write + AsFd)) -> Result<()> {
    let timeout = crate::commands::config(place).daemon.ready_timeout + LATER;
    let over = |status: &BuilderStatus| {
        let served = status.is_served();
        if let (true, Some(keys)) = (served, keys) {
            ssh::add(&place.paths, keys)?;
        }
        Ok(served || status.agents.iter().any(|agent| agent.phase == Phase::Failed))
    };
    until(place, (timeout, "the builder was not ready in time"), over, out)
}

/// The same until each agent has taken the configuration of this digest, or refuses what it found.
///
/// # Errors
/// When one has not read it in time, or whoever reads is gone.
pub fn until_configured(place: &Place, digest: &str, out: &mut (impl Write + AsFd)) -> Result<()> {
    let over = |status: &BuilderStatus| {
        Ok(status.agents.iter().all(|agent| agent.config == digest || agent.refuses()))
    };
    until(place, (CONFIGURED, "not all agents have read the new configuration in time"), over, out)
}

fn until(
    place: &Place,
    (timeout, late): (Duration, &str),
    over: impl Fn(&BuilderStatus) -> Result<bool>,
    out: &mut (impl Write + AsFd),
) -> Result<()> {
    let paths = &place.paths;
    let config = crate::commands::config(place);
    let deadline = Instant::now() + timeout;
    let waiting = || io_error("wait for a change in", &paths.run);
    let signals = Signals::install().map_err(waiting())?;
    let mut waiter = Waiter::new(&signals).map_err(waiting())?;
    let reader = out.as_fd().try_clone_to_owned().map_err(waiting())?;
    let readers = if is_pipe(&reader) { vec![reader.as_fd()] } else { Vec::new() };
    let mut told = None;
    loop {
        // Before the look, so that nothing is missed between look and wait. Folders of others appear when they start.
        watch(&mut waiter, paths)?;
        let life = agent::life::current(paths).map_err(io_error("read", &paths.proc))?;
        let status = assemble(paths, &life, &config);
        let over = over(&status)?;
        if told.as_ref() != Some(&status) {
            crate::commands::print_to(out, &status)?;
            told = Some(status);
        }
        if over {
            return Ok(());
        }
        match waiter.wait_fds(Some(deadline), &readers).map_err(waiting())? {
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => {
                return Err(agent::ready::Error::Terminated.into());
            }
            Wake::Fd(_) => return Err(Error::Transfer("nobody reads any more".into())),
            Wake::Deadline => return Err(Error::Deadline(late.into())),
            Wake::Signals(_) | Wake::Changed => {}
        }
    }
}

/// The parent first: a folder that is made between the two looks would not be told of otherwise.
fn watch(waiter: &mut Waiter<'_>, paths: &Paths) -> Result<()> {
    for dir in [&paths.run].into_iter().chain(&Container::ALL.map(|container| paths.run_dir(container))) {
        waiter.watch_dir_if_there(dir).map_err(io_error("watch", dir))?;
    }
    Ok(())
}

/// A pipe tells when its reader is gone; a file could always be read, and a terminal whenever somebody types.
fn is_pipe(fd: &impl AsFd) -> bool {
    let kind = fstat(fd).map(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT);
    matches!(kind, Ok(kind) if kind == SFlag::S_IFIFO || kind == SFlag::S_IFSOCK)
}
