//! A process of its own that seeds, to be killed: this test program, started again.

use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use daemon_init::seed;
use daemon_init::seed::abort::Abort;
use daemon_init::seed::watch::{Observer, Step, Watch};
use daemon_init::volume::{self, Open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::image::Scratch;
use crate::store::OPTIONS;

/// Set for the child: volume root, image root, and the step after which it kills itself, or nothing.
const TASK: &str = "TRAMPOLINE_TEST_SEED_CHILD";

/// The child's part; nothing in an ordinary run.
#[test]
fn child() {
    let Ok(task) = std::env::var(TASK) else { return };
    let mut task = task.split('|');
    let (volume, image, die_at) = (task.next().unwrap(), task.next().unwrap(), task.next().unwrap());
    let image = Scratch { root: image.into() }.image();
    let abort = Abort::new();
    let mut volume =
        volume::open(&Open { root: Path::new(volume), image: &image, adopt: false, abort: &abort }).unwrap();
    let observer = DieAt(die_at.into());
    seed::run(&mut volume, &image, OPTIONS, &Watch::new(&observer, &abort)).unwrap();
    seed::delete_leftovers(&volume, &abort).unwrap();
}

struct DieAt(String);

impl Observer for DieAt {
    fn step(&self, step: Step) {
        if format!("{step:?}") == self.0 {
            kill(Pid::this(), Signal::SIGKILL).unwrap();
        }
    }
}

/// How the child is to end.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    /// By itself.
    Whole,
    /// Killed after this time, unless it is done before.
    After(Duration),
    /// Killed by its own hand.
    At(Step),
}

/// Seeds in another process.
pub(crate) fn seed_in_child(volume: &Path, image: &Scratch, end: End) -> ExitStatus {
    let die_at = match end {
        End::At(step) => format!("{step:?}"),
        _ => String::new(),
    };
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child::child", "--exact", "--nocapture"])
        .env(TASK, format!("{}|{}|{die_at}", volume.display(), image.root.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = child.stderr.take().unwrap();
    if let End::After(time) = end {
        // Its stderr closes when it ends, and says nothing before.
        let mut fds = [PollFd::new(stderr.as_fd(), PollFlags::POLLIN)];
        let timeout = PollTimeout::try_from(time).unwrap();
        if poll(&mut fds, timeout).unwrap() == 0 {
            child.kill().unwrap();
        }
    }
    let mut text = String::new();
    stderr.read_to_string(&mut text).unwrap();
    let status = child.wait().unwrap();
    assert!(!text.contains("panicked"), "{text}");
    status
}
