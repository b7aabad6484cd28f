//! One collection of ours at a time: what each has daemon-init spare holds for all that begin meanwhile.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::PathBuf;

use agent::paths::Paths;
use agent::status::chain;
use agent::{files, proc, published};
use contract::handshake::Life;
use contract::in_use::{ASKED, Asked};
use contract::places::Container;
use nix::fcntl::Flock;

const LOCK: &str = "collect.lock";
/// To a person who has to.
pub(crate) const WAITS: &str = "waiting for the end of what maintenance does at the moment";

/// Tells the agent, for as long as this is there, that somebody wants his turn.
#[derive(Debug)]
pub(crate) struct Wanted(PathBuf);

impl Wanted {
    /// Where it cannot be told, one may have to wait longer.
    pub(crate) fn new(paths: &Paths, life: &Life) -> Self {
        let dir = paths.run_dir(Container::Maintenance);
        let told = proc::ourselves(&paths.proc).map_err(|error| error.to_string()).and_then(|by| {
            files::write_json(&dir, ASKED, &Asked { life: life.clone(), by }).map_err(|error| chain(&error))
        });
        if let Err(error) = told {
            tracing::warn!("{error}");
        }
        Self(dir.join(ASKED))
    }

    /// Whether somebody does.
    pub(crate) fn is(paths: &Paths, life: &Life) -> bool {
        let asked: Option<Asked> = published::read(paths, life, Container::Maintenance, ASKED);
        asked.is_some_and(|asked| proc::lives(&paths.proc, asked.by))
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        // It says nothing once this process is gone.
        let _ = files::withdraw(&self.0);
    }
}

/// It is not to be had.
#[derive(Debug, thiserror::Error)]
#[error("lock {}", path.display())]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

/// Takes the turn, for as long as what is returned lives; the kernel ends that of a process that is gone. `waiting` is called where
/// somebody else has it. As long as theirs takes, without end: a signal ends a process that waits here, as it does one that collects.
///
/// # Errors
/// When the file cannot be made or locked.
pub(crate) fn take(paths: &Paths, waiting: impl FnOnce()) -> Result<Flock<File>, Error> {
    let path = paths.run_dir(Container::Maintenance).join(LOCK);
    let error = |errno: io::Error| Error { path: path.clone(), source: errno };
    let file = OpenOptions::new().write(true).create(true).truncate(false).open(&path).map_err(error)?;
    agent::lock::take(file, waiting).map_err(|errno| error(errno.into()))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn the_second_waits_for_the_end_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        std::fs::create_dir_all(paths.run_dir(Container::Maintenance)).unwrap();
        let first = take(&paths, || panic!("nobody else is there")).unwrap();
        let (say, said) = mpsc::channel();
        std::thread::scope(|scope| {
            let (paths, say) = (&paths, &say);
            scope.spawn(move || {
                let turn = take(paths, || say.send("waits").unwrap()).unwrap();
                say.send("collects").unwrap();
                drop(turn);
            });
            assert_eq!(said.recv().unwrap(), "waits");
            assert!(said.try_recv().is_err());
            drop(first);
            assert_eq!(said.recv().unwrap(), "collects");
        });
    }
}
