//! What the user's processes use of the store, asked for and waited for.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use contract::handshake::{AgentStatus, Life, Phase, file};
use contract::in_use::{IN_USE, InUse, LOOK, Look};
use contract::places::Container;
use nix::time::{ClockId, clock_gettime};
use serde::{Serialize, de::DeserializeOwned};

use crate::files::{self, Living};
use crate::paths::Paths;
use crate::published;
use crate::watch::DirWatch;

/// user-init answers within milliseconds; on a machine that is busy beyond that, a collection can wait.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// See [`await_gate`].
const GATE: Duration = Duration::from_secs(1);
/// Between two looks at the locks.
const LOCK: Duration = Duration::from_millis(1);

/// There is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request was not written.
    #[error("ask user-init")]
    Ask(#[from] files::Error),
    /// Of the operating system.
    #[error("wait for what user-init says")]
    Wait(#[from] io::Error),
    /// It serves, and says nothing.
    #[error("user-init did not answer within {} s, although it serves", .0.as_secs())]
    Deadline(Duration),
}

/// Nanoseconds of the monotonic clock, the same in all containers.
///
/// # Errors
/// When the kernel has no such clock.
pub fn now() -> io::Result<u64> {
    let time = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC)?);
    Ok(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// Before a collection: waits until those that are under way, or stand at the gate, are over and daemon-init holds it again. One that is
/// faster goes by what was seen for the one before it. The kernel does not tell of locks, so they are looked at; a long one is not waited for without
/// end, and without a gate, or where locks are not to be seen, this is over after a second.
///
/// # Errors
/// When `/proc/locks` or Nix's lock cannot be read.
pub fn await_gate(paths: &Paths) -> io::Result<()> {
    let inode = std::fs::metadata(paths.nix.join("var/nix/gc.lock"))?.ino();
    let begun = Instant::now();
    let mut free = begun;
    loop {
        let mut held = crate::proc::flocks(&paths.proc)?;
        held.retain(|lock| lock.inode == inode && (lock.exclusive || !lock.waits));
        if held.iter().any(|lock| lock.exclusive) {
            free = Instant::now();
        } else if !held.is_empty() || free.elapsed() >= GATE {
            return Ok(());
        }
        if begun.elapsed() >= PATIENCE {
            return Ok(());
        }
        std::thread::sleep(LOCK);
    }
}

/// Has user-init look, and waits for what it sees, for `patience` at most. `None` where it does not serve: then nobody has come in, but
/// of an agent that has failed some processes may be left, so that what was published before still counts. `asker` is us.
///
/// # Errors
/// See [`Error`].
pub fn ask(paths: &Paths, life: &Life, asker: Container, patience: Duration) -> Result<Option<InUse>, Error> {
    let asked = now()?;
    let look = Look { life: life.clone(), asked };
    ask_user_init(paths, life, (asker, LOOK), &look, IN_USE, patience, |seen: &InUse| seen.looked >= asked)
}

/// Writes `request` into our own folder, and waits for the answer in user-init's. `None` where user-init does not serve.
pub(crate) fn ask_user_init<A: DeserializeOwned + Living>(
    paths: &Paths,
    life: &Life,
    (asker, question): (Container, &str),
    request: &impl Serialize,
    answer: &str,
    patience: Duration,
    is_it: impl Fn(&A) -> bool,
) -> Result<Option<A>, Error> {
    let deadline = Instant::now() + patience;
    let user = paths.run_dir(Container::User);
    let mut watch = DirWatch::new()?;
    match watch.add(&user) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    files::write_json(&paths.run_dir(asker), question, request)?;
    loop {
        if let Some(said) = published::read(paths, life, Container::User, answer).filter(&is_it) {
            return Ok(Some(said));
        }
        let status: Option<AgentStatus> = published::read(paths, life, Container::User, file::STATUS);
        if !status.is_some_and(|s| matches!(s.phase, Phase::Running | Phase::Draining)) {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Err(Error::Deadline(patience));
        }
        watch.wait(Some(deadline))?;
    }
}

/// What was published last in this life.
#[must_use]
pub fn last(paths: &Paths, life: &Life) -> Option<InUse> {
    published::read(paths, life, Container::User, IN_USE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use contract::exit::Exit;

    use super::*;
    use crate::status::Reporter;

    const SHORT: Duration = Duration::from_millis(50);

    struct Pod {
        _dir: tempfile::TempDir,
        paths: Paths,
        life: Life,
    }

    impl Pod {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::scratch(dir.path());
            for container in [Container::User, Container::Maintenance] {
                fs::create_dir_all(paths.run_dir(container)).unwrap();
            }
            Self { _dir: dir, paths, life: Life("b:1".into()) }
        }

        fn ask(&self, patience: Duration) -> Result<Option<InUse>, Error> {
            ask(&self.paths, &self.life, Container::Maintenance, patience)
        }

        fn answer(&self, looked: u64) {
            let seen = InUse { life: self.life.clone(), looked, names: BTreeSet::new() };
            files::write_json(&self.paths.run_dir(Container::User), IN_USE, &seen).unwrap();
        }
    }

    #[test]
    fn nobody_is_waited_for_who_does_not_serve() {
        let pod = Pod::new();
        assert_eq!(pod.ask(PATIENCE).unwrap(), None);
        let mut user = Reporter::new(&pod.paths, &pod.life, Container::User, "1");
        user.phase(Phase::Starting, "starts");
        assert_eq!(pod.ask(PATIENCE).unwrap(), None);
        user.failed(Exit::Io, "failed");
        assert_eq!(pod.ask(PATIENCE).unwrap(), None);
        fs::remove_dir_all(pod.paths.run_dir(Container::User)).unwrap();
        assert_eq!(pod.ask(PATIENCE).unwrap(), None);
    }

    #[test]
    fn an_old_look_is_no_answer_and_a_new_one_is() {
        let pod = Pod::new();
        let mut user = Reporter::new(&pod.paths, &pod.life, Container::User, "1");
        user.phase(Phase::Running, "serves");
        pod.answer(now().unwrap());
        assert!(matches!(pod.ask(SHORT), Err(Error::Deadline(_))));
        let mut watch = DirWatch::new().unwrap();
        watch.add(&pod.paths.run_dir(Container::Maintenance)).unwrap();
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| pod.ask(PATIENCE));
            watch.wait(Some(Instant::now() + PATIENCE)).unwrap();
            let look =
                || published::read::<Look>(&pod.paths, &pod.life, Container::Maintenance, LOOK).unwrap();
            // One that began before it was asked for does not count, however late it comes.
            pod.answer(look().asked - 1);
            pod.answer(now().unwrap());
            let seen = asking.join().unwrap().unwrap().unwrap();
            assert!(seen.looked >= look().asked);
        });
    }
}
