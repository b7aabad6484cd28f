//! `user-init status`: what the pod publishes, in one object. Is no session and no activity.

use std::path::Path;

use agent::paths::Paths;
use contract::config::Config;
use contract::handshake::{BuilderStatus, Life};
use nix::sys::resource::RLIM_INFINITY;

use crate::environment;

/// Assembles it.
#[must_use]
pub fn assemble(paths: &Paths, life: &Life, config: &Config) -> BuilderStatus {
    let group = agent::cgroup::limits(Path::new("/sys/fs/cgroup")).pids;
    let own = environment::process_limit(config);
    let limit = group.map_or(own, |g| g.min(own));
    agent::published::status(paths, life, (limit != RLIM_INFINITY).then_some(limit))
}
