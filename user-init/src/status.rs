//! `user-init status`: what the pod publishes, in one object. Reads files; is no session and no activity.

use agent::files::{self, Living};
use agent::paths::Paths;
use contract::config::Config;
use contract::handshake::{AgentStatus, BuilderStatus, Life, file};
use contract::places::Container;
use serde::de::DeserializeOwned;

use crate::environment;

/// One file of one agent; what cannot be read is as if it were not there.
fn published<T: DeserializeOwned + Living>(
    paths: &Paths,
    life: &Life,
    of: Container,
    name: &str,
) -> Option<T> {
    files::read_live(&paths.run_dir(of).join(name), life).ok().flatten()
}

/// Assembles it.
#[must_use]
pub fn assemble(paths: &Paths, life: &Life, config: &Config) -> BuilderStatus {
    let agents = Container::ALL.into_iter();
    let agents = agents.filter_map(|c| published::<AgentStatus>(paths, life, c, file::STATUS)).collect();
    let group = agent::cgroup::limits(std::path::Path::new("/sys/fs/cgroup")).pids;
    let own = environment::process_limit(config);
    let limit = group.map_or(own, |g| g.min(own));
    BuilderStatus {
        life: life.clone(),
        ready: agent::ready::published(paths, life),
        agents,
        daemon: published(paths, life, Container::Daemon, file::ACTIVITY),
        user: published(paths, life, Container::User, file::ACTIVITY),
        idle: published(paths, life, Container::ShutdownMonitor, file::IDLE),
        stop: published(paths, life, Container::ShutdownMonitor, file::STOP),
        drain: published(paths, life, Container::Daemon, file::DRAIN),
        store: published(paths, life, Container::Maintenance, file::STORE),
        pids_limit: (limit != nix::sys::resource::RLIM_INFINITY).then_some(limit),
    }
}
