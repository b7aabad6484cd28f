//! A daemon that takes connections and serves none.
#![expect(clippy::unwrap_used, reason = "scaffolding of tests: what fails here fails the test")]

use std::fs;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use agent::paths::Paths;

/// Ends each connection, as nix-daemon does when it cannot fork.
pub(crate) struct Listener {
    asked: Arc<AtomicU32>,
}

impl Listener {
    /// Where the daemon is looked for. Serves as long as the test runs.
    pub(crate) fn start(paths: &Paths) -> Self {
        let socket = paths.daemon_socket();
        fs::create_dir_all(socket.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(&socket).unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                count.fetch_add(1, Ordering::Relaxed);
                drop(connection);
            }
        });
        Self { asked }
    }

    /// How often.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(Ordering::Relaxed)
    }
}
