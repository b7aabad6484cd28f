//! Input that a command has left. podman gives up the output of a command that ends while its input is still being sent (one time
//! in a hundred, 4.3). containerd ends an exec when all that came for it is written, also to a command that has ended and reads
//! no more: a client that sends more than fits into the pipes between waits for ever (seen with 2.4, and with kubectl as well). It
//! takes nothing more once both outputs are closed; but what is on its way then breaks the connection, and API server and kubelet
//! drop what they have not passed on of the output. So the input is read to its end first, if it has one.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use agent::life;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stderr, dup2_stdout};

/// A client that sends more than is read has filled the pipes, so that the next of it is there at once.
const FIRST: Duration = Duration::from_millis(50);
/// Networks pause. And containerd says within milliseconds that nothing more comes, once the outputs are closed.
const QUIET: Duration = Duration::from_secs(1);
/// An input may have no end.
const LONGEST: Duration = Duration::from_secs(10);

/// To be called last: in a cluster nothing that is written later is seen.
pub(crate) fn leave() {
    let arrivals = discard(io::stdin());
    if until_left(&arrivals, FIRST, LONGEST) == Left::Open && life::in_cluster() {
        let closed = File::options().write(true).open("/dev/null").and_then(|null| {
            dup2_stdout(&null)?;
            Ok(dup2_stderr(&null)?)
        });
        if closed.is_ok() {
            until_left(&arrivals, QUIET, QUIET);
        }
    }
}

/// What is left of the input.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Open,
}

/// Reads to its end; tells each time that something has come. In a thread that nobody waits for: what the command has left running
/// may read the same pipe, and take what we have seen come.
fn discard(mut input: impl Read + AsFd + Send + 'static) -> Receiver<()> {
    let (came, arrivals) = mpsc::channel();
    let read = move || {
        let mut bytes = vec![0; 64 << 10];
        loop {
            match input.read(&mut bytes) {
                Ok(1..) if came.send(()).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The command has left it like that.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = poll(&mut [PollFd::new(input.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
                }
                Ok(_) | Err(_) => return,
            }
        }
    };
    // Without a thread to spare, nothing is read.
    drop(thread::Builder::new().spawn(read));
    arrivals
}

/// To the input's end, or until nothing comes for a while, at first for `quiet`; for `longest` at most.
fn until_left(arrivals: &Receiver<()>, mut quiet: Duration, longest: Duration) -> Left {
    let end = Instant::now() + longest;
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(quiet);
        match arrivals.recv_timeout(left) {
            Err(RecvTimeoutError::Disconnected) => return Left::Nothing,
            Ok(()) if !left.is_zero() => quiet = QUIET,
            Ok(()) | Err(RecvTimeoutError::Timeout) => return Left::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use nix::fcntl::{FcntlArg, OFlag, fcntl};

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn whatever_comes_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let sent = thread::spawn(move || writer.write_all(&vec![7; 1 << 20]));
        assert_eq!(until_left(&discard(reader), LONG, LONG), Left::Nothing);
        sent.join().unwrap().unwrap();
    }

    /// As some commands leave it.
    #[test]
    fn an_input_that_does_not_block_is_waited_for() {
        let (reader, mut writer) = io::pipe().unwrap();
        fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let arrivals = discard(reader);
        let quiet = Duration::from_millis(20);
        assert_eq!(until_left(&arrivals, quiet, LONG), Left::Open);
        assert!(arrivals.try_recv().is_err(), "nothing has come");
        writer.write_all(b"late").unwrap();
        drop(writer);
        assert_eq!(until_left(&arrivals, LONG, LONG), Left::Nothing);
    }

    #[test]
    fn a_writer_that_keeps_its_end_is_not_waited_for() {
        let (reader, _writer) = io::pipe().unwrap();
        let quiet = Duration::from_millis(10);
        assert_eq!(until_left(&discard(reader), quiet, LONG), Left::Open);
        let (reader, mut writer) = io::pipe().unwrap();
        // One that never falls silent.
        let sent = thread::spawn(move || while writer.write_all(&[7; 1 << 10]).is_ok() {});
        let arrivals = discard(reader);
        assert_eq!(until_left(&arrivals, LONG, 5 * quiet), Left::Open);
        drop(arrivals);
        sent.join().unwrap();
    }
}
