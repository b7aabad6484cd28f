//! When it was collected last: kept on the store volume by daemon-init, as a builder that stops when it is idle rarely lives from one
//! collection to the next.

use std::time::Duration;

use agent::control::ask;
use agent::paths::Paths;
use agent::status::chain;
use contract::control::{Reply, Request};

/// It answers from memory.
const PATIENCE: Duration = Duration::from_secs(5);

/// Seconds since the epoch. The first question of all begins to count. `None` where daemon-init does not say.
pub(crate) fn recall(paths: &Paths) -> Option<u64> {
    let mut at = None;
    let asked = ask(&paths.daemon_control_socket(), &Request::LastCollection, PATIENCE, |reply| {
        if let Reply::Collected { at: last } = reply {
            at = Some(last);
        }
        Ok(())
    });
    if let Err(error) = asked {
        tracing::debug!("when it was collected last is not known: {}", chain(&error));
    }
    at
}

/// One has ended.
pub(crate) fn note(paths: &Paths, at: u64) {
    let request = Request::Collected { at };
    if let Err(error) = ask(&paths.daemon_control_socket(), &request, PATIENCE, |_| Ok(())) {
        tracing::debug!("that it was collected is not kept: {}", chain(&error));
    }
}
