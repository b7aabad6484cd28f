//! All that the pod publishes, in one object. Reads files; is no activity.

use contract::handshake::{AgentStatus, BuilderStatus, Life, file};
use contract::places::Container;
use serde::de::DeserializeOwned;

use crate::files::{self, Living};
use crate::paths::Paths;

/// One file of one agent; what cannot be read is as if it were not there.
#[must_use]
pub fn read<T: DeserializeOwned + Living>(
    paths: &Paths,
    life: &Life,
    of: Container,
    name: &str,
) -> Option<T> {
    files::read_live(&paths.run_dir(of).join(name), life).unwrap_or_else(|error| {
        tracing::debug!("{}", crate::status::chain(&error));
        None
    })
}

/// Everything. `pids_limit` is what only the user's container can see.
#[must_use]
pub fn status(paths: &Paths, life: &Life, pids_limit: Option<u64>) -> BuilderStatus {
    let agents = Container::ALL.into_iter();
    let agents = agents.filter_map(|c| read::<AgentStatus>(paths, life, c, file::STATUS)).collect();
    BuilderStatus {
        life: life.clone(),
        ready: crate::ready::published(paths, life),
        agents,
        daemon: read(paths, life, Container::Daemon, file::ACTIVITY),
        user: read(paths, life, Container::User, file::ACTIVITY),
        idle: read(paths, life, Container::ShutdownMonitor, file::IDLE),
        stop: read(paths, life, Container::ShutdownMonitor, file::STOP),
        drain: read(paths, life, Container::Daemon, file::DRAIN),
        store: read(paths, life, Container::Maintenance, file::STORE),
        keys: read(paths, life, Container::Daemon, file::KEYS),
        damage: read(paths, life, Container::Daemon, contract::damage::DAMAGE),
        memory: read(paths, life, Container::Daemon, file::MEMORY),
        build_dir: read(paths, life, Container::Daemon, file::BUILD_DIR),
        pids_limit,
        system: Some(contract::image::system()),
    }
}
