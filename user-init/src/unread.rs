//! Input that a command has left. podman gives up the output of a command that ends while its input is still being sent (one time
//! in a hundred, 4.3). containerd ends an exec when all that came for it is written, also to a command that has ended and reads
//! no more: a client that sends more than fits into the pipes between waits for ever (seen with 2.4, and with kubectl as well). It
//! takes nothing more once both outputs are closed; but what is on its way then breaks the connection, and API server and kubelet
//! drop what they have not passed on of the output. So the input is read to its end first, if it has one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use agent::life;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{dup2_stderr, dup2_stdout, read};

/// A client that sends more than is read has filled the pipes, so that the next of it is there at once.
const FIRST: Duration = Duration::from_millis(50);
/// Networks pause. And containerd says within milliseconds that nothing more comes, once the outputs are closed.
const QUIET: Duration = Duration::from_secs(1);
/// An input may have no end.
const LONGEST: Duration = Duration::from_secs(10);

/// To be called last: in a cluster nothing that is written later is seen.
pub(crate) fn leave() {
    let input = io::stdin();
    let end = Instant::now() + LONGEST;
    if discard(input.as_fd(), FIRST, end) == Left::Open && life::in_cluster() {
        let closed = File::options().write(true).open("/dev/null").and_then(|null| {
            dup2_stdout(&null)?;
            Ok(dup2_stderr(&null)?)
        });
        if closed.is_ok() {
            discard(input.as_fd(), QUIET, Instant::now() + QUIET);
        }
    }
}

/// What is left of the input.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    Nothing,
    Open,
}

/// To its end, or until nothing comes for a while; at first for `quiet`.
fn discard(input: BorrowedFd<'_>, mut quiet: Duration, end: Instant) -> Left {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let left = end.saturating_duration_since(Instant::now()).min(quiet);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(&mut [PollFd::new(input, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Left::Open,
            Ok(_) => quiet = QUIET,
            Err(Errno::EINTR) => continue,
            Err(_) => return Left::Nothing,
        }
        if left.is_zero() {
            return Left::Open;
        }
        match read(input, &mut bytes) {
            Ok(1..) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) | Err(_) => return Left::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn whatever_comes_is_read_to_its_end() {
        let (reader, mut writer) = io::pipe().unwrap();
        let sent = thread::spawn(move || writer.write_all(&vec![7; 1 << 20]));
        assert_eq!(discard(reader.as_fd(), LONG, Instant::now() + LONG), Left::Nothing);
        drop(reader);
        sent.join().unwrap().unwrap();
    }

    #[test]
    fn a_writer_that_keeps_its_end_is_not_waited_for() {
        let (reader, _writer) = io::pipe().unwrap();
        let quiet = Duration::from_millis(10);
        assert_eq!(discard(reader.as_fd(), quiet, Instant::now() + LONG), Left::Open);
        let (reader, mut writer) = io::pipe().unwrap();
        // One that never falls silent.
        let sent = thread::spawn(move || while writer.write_all(&[7; 1 << 10]).is_ok() {});
        assert_eq!(discard(reader.as_fd(), LONG, Instant::now() + 5 * quiet), Left::Open);
        drop(reader);
        sent.join().unwrap();
    }
}
