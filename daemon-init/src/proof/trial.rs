//! One small build by the daemon itself, in its sandbox: what no look at the pod can tell shows here, before others meet it.

use std::io::{self, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::signals::Signal;
use agent::wait::{Waiter, Wake};
use contract::exit::Exit;
use nix::unistd::Pid;
use worker_protocol::{BuildMode, BuildOutcome, Connection, Derivation};

use crate::nix_daemon::reap;

/// It takes a fraction of a second on a quiet node.
const PATIENCE: Duration = Duration::from_secs(60);

/// Store path of the one output. Nobody else's: no hash is all zeros.
const OUT: &str = "/nix/store/00000000000000000000000000000000-trampoline-trial";

/// Done by Nix itself, within the sandbox: no program of the image's is needed.
const TRIAL: Derivation<'static> = Derivation {
    path: "/nix/store/00000000000000000000000000000000-trampoline-trial.drv",
    outputs: &[("out", OUT)],
    inputs: &[],
    system: "builtin",
    builder: "builtin:buildenv",
    arguments: &[],
    environment: &[
        // Binary caches, which may be slow or out of reach, do not have it.
        ("allowSubstitutes", ""),
        ("derivations", ""),
        ("manifest", "/dev/null"),
        ("name", "trampoline-trial"),
        ("out", OUT),
        ("preferLocalBuild", "1"),
    ],
};

/// What Nix says of a volume that takes nothing more: the kernel's words, and SQLite's.
const NO_ROOM: [&str; 2] = ["No space left on device", "database or disk is full"];

/// Builds do not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The daemon says why.
    #[error(
        "a trial build in the sandbox failed: {0}; the pod has what it needs as far as can be seen, so look at the node: docs/userns.md says what it must have"
    )]
    Failed(String),
    /// Nothing was built.
    #[error("nix-daemon answered a trial build with status {} and built nothing", .0.status)]
    NotBuilt(BuildOutcome),
    /// As without `DAC_OVERRIDE`.
    #[error("a trial build in the sandbox did not end within {} s: its processes wait for something that the pod does not allow", PATIENCE.as_secs())]
    Hangs,
    /// Nobody answers.
    #[error("ask nix-daemon for a trial build")]
    Ask(#[source] worker_protocol::Error),
    /// nix-daemon is no more.
    #[error("nix-daemon ended during a trial build ({0}): its own words are above in this container's log")]
    Ended(String),
    /// SIGTERM.
    #[error("asked to leave during a trial build")]
    Terminated,
    /// Of the operating system.
    #[error("wait for a trial build")]
    Io(#[from] io::Error),
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Failed(_) | Self::Hangs => Exit::Unsupported,
            Self::NotBuilt(_) | Self::Ask(_) | Self::Ended(_) => Exit::ChildFailed,
            Self::Terminated => Exit::Stopping,
            Self::Io(_) => Exit::Internal,
        }
    }

    /// It says nothing of the pod: the volume is full, in bytes or in inodes.
    #[must_use]
    pub fn is_for_lack_of_room(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Ask(worker_protocol::Error::Daemon(_)))
            && NO_ROOM.iter().any(|words| agent::status::chain(self).contains(words))
    }
}

/// Has it built.
///
/// # Errors
/// See [`Error`].
pub fn run(paths: &Paths, waiter: &mut Waiter<'_>, daemon: Pid) -> Result<(), Error> {
    let began = Instant::now();
    let stream = UnixStream::connect(paths.daemon_socket())?;
    let conversation = stream.try_clone()?;
    let (ended, end) = UnixStream::pair()?;
    thread::scope(|scope| {
        let build = scope.spawn(move || {
            // Closed when it is over, however it ends.
            let _end = end;
            build(conversation)
        });
        let waited = wait(waiter, &ended, daemon);
        // Ends the conversation, and with it the build.
        let _ = stream.shutdown(Shutdown::Both);
        let built = build.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        waited?;
        judge(built.map_err(Error::Ask)?)
    })?;
    tracing::info!(seconds = began.elapsed().as_secs_f32(), "a trial build in the sandbox succeeded");
    Ok(())
}

fn build(stream: UnixStream) -> worker_protocol::Result<BuildOutcome> {
    let mut connection = Connection::open(stream)?;
    // An earlier start's, if nobody has collected it: what is valid would not be built.
    let mode = match connection.path_info(OUT)? {
        Some(_) => BuildMode::Check,
        None => BuildMode::Normal,
    };
    connection.build(&TRIAL, mode)
}

fn judge(outcome: BuildOutcome) -> Result<(), Error> {
    if !outcome.succeeded() {
        return Err(Error::Failed(outcome.message));
    }
    if outcome.was_built() { Ok(()) } else { Err(Error::NotBuilt(outcome)) }
}

/// Until the conversation is over.
fn wait(waiter: &mut Waiter<'_>, ended: &UnixStream, daemon: Pid) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waiter.wait_fds(Some(deadline), &[ended.as_fd()])? {
            Wake::Fd(_) => {
                // The end of the stream: nothing was ever written.
                let mut nothing: &UnixStream = ended;
                let _ = nothing.read(&mut [0]);
                return Ok(());
            }
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => return Err(Error::Terminated),
            Wake::Signals(seen) if seen.contains(&Signal::Child) => {
                if let Some((_, how)) = reap().into_iter().find(|(pid, _)| *pid == daemon) {
                    return Err(Error::Ended(how));
                }
            }
            Wake::Deadline => return Err(Error::Hangs),
            Wake::Signals(_) | Wake::Changed => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(status: u64, message: &str, started: u64) -> BuildOutcome {
        BuildOutcome { status, message: message.into(), started }
    }

    #[test]
    fn only_a_build_proves_something() {
        judge(outcome(0, "", 0)).unwrap();
        judge(outcome(2, "", 1)).unwrap();
        assert!(matches!(judge(outcome(2, "", 0)), Err(Error::NotBuilt(_))));
        let failed = judge(outcome(9, "unable to start any build", 0)).unwrap_err();
        assert!(failed.to_string().contains("failed: unable to start any build;"), "{failed}");
        assert_eq!(failed.exit(), Exit::Unsupported);
        assert!(!failed.is_for_lack_of_room());
        let full = judge(outcome(9, "writing to file: No space left on device", 0)).unwrap_err();
        assert!(full.is_for_lack_of_room());
    }
}
