//! A listener that cannot serve yet. In a program of its own: whoever waits takes the statuses of all children.

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent::paths::Paths;
use agent::ready::AGAIN;
use agent::signals::Signals;
use agent::wait::Waiter;
use daemon_init::nix_daemon::{self, Error};
use nix::unistd::Pid;

#[test]
fn one_that_ends_the_connection_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::scratch(dir.path());
    let socket = paths.daemon_socket();
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            drop(connection);
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let signals = Signals::install().unwrap();
    let mut waiter = Waiter::new(&signals).unwrap();
    let answer = nix_daemon::await_answer(&paths, &mut waiter, Pid::this(), AGAIN * 3 / 2);
    assert!(matches!(answer, Err(Error::Silent { .. })), "{answer:?}");
    assert_eq!(asked.load(Ordering::Relaxed), 2);
}
