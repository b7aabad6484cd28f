//! A listener that cannot serve yet. In a program of its own: whoever waits takes the statuses of all children.

#[path = "../../crates/agent/tests/common/mod.rs"]
mod common;

use agent::paths::Paths;
use agent::ready::AGAIN;
use agent::signals::Signals;
use agent::wait::Waiter;
use common::Listener;
use daemon_init::nix_daemon::{self, Error};
use nix::unistd::Pid;

#[test]
fn one_that_ends_the_connection_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::scratch(dir.path());
    let listener = Listener::start(&paths);
    let signals = Signals::install().unwrap();
    let mut waiter = Waiter::new(&signals).unwrap();
    let answer = nix_daemon::await_answer(&paths, &mut waiter, Pid::this(), AGAIN * 3 / 2);
    assert!(matches!(answer, Err(Error::Silent { .. })), "{answer:?}");
    assert_eq!(listener.asked(), 2);
}
