//! Waiting for a daemon that cannot serve yet. In a program of its own: signals are the whole process's.

mod common;

use std::fs;
use std::time::Instant;

use agent::paths::Paths;
use agent::ready::{AGAIN, Error, wait_ready};
use agent::signals::Signals;
use agent::wait::Waiter;
use agent::{files, life, proc};
use common::Listener;
use contract::handshake::{Ready, file};
use contract::places::Container;

#[test]
fn a_daemon_that_ends_the_connection_is_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let paths = Paths::scratch(dir.path());
    let folder = paths.run_dir(Container::Daemon);
    fs::create_dir_all(&folder).unwrap();
    let listener = Listener::start(&paths);
    let life = life::current(&paths).unwrap();
    let me = proc::ourselves(&paths.proc).unwrap();
    let ready = Ready {
        life: life.clone(),
        pid: me.pid,
        start_time: me.start_time,
        store_id: String::new(),
        nix_version: String::new(),
        image: String::new(),
        isolation: None,
        at: 0,
    };
    files::write_json(&folder, file::READY, &ready).unwrap();
    let signals = Signals::install().unwrap();
    let mut waiter = Waiter::new(&signals).unwrap();
    let deadline = Instant::now() + AGAIN * 3 / 2;
    let outcome = wait_ready(&paths, &life, &mut waiter, deadline);
    assert!(matches!(outcome, Err(Error::Deadline)), "{outcome:?}");
    assert_eq!(listener.asked(), 2);
}
