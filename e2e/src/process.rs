//! Running a program with a deadline, and watching what it says while it runs.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, ExitStatus};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::output::Output;
use crate::{secrets, setting};

/// Time for what a killed program leaves in its pipes.
const LEFT: Duration = Duration::from_secs(5);

enum Event {
    Out(Vec<u8>),
    Err(Vec<u8>),
    Closed,
    Ended(std::io::Result<ExitStatus>),
}

enum Next {
    Line(Vec<u8>),
    Other,
    Deadline,
}

/// A command that runs. Dropped, it is killed.
#[derive(Debug)]
pub struct Live {
    what: String,
    pid: Pid,
    events: Receiver<Event>,
    stdin: Option<ChildStdin>,
    until: Instant,
    out: Vec<u8>,
    err: Vec<u8>,
    open: u8,
    status: Option<ExitStatus>,
}

/// `client`: its command line, if it is the client.
fn follow(
    pipe: impl Read + Send + 'static,
    sender: Sender<Event>,
    event: fn(Vec<u8>) -> Event,
    client: Option<String>,
) {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
            if let (Some(client), Ok(line)) = (&client, std::str::from_utf8(&line)) {
                secrets::search(client, line, &[]);
            }
            if sender.send(event(std::mem::take(&mut line))).is_err() {
                return;
            }
        }
        drop(sender.send(Event::Closed));
    });
}

impl Live {
    /// Watches a child whose output is piped.
    pub(crate) fn follow(
        what: String,
        mut child: Child,
        stdin: Option<ChildStdin>,
        deadline: Duration,
    ) -> Self {
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("pids fit"));
        let (sender, events) = channel();
        let (stdout, stderr) = (child.stdout.take().expect("it is piped"), child.stderr.take());
        let is_client = setting::read().is_ok_and(|setting| what.contains(&*setting.cli.to_string_lossy()));
        let client = is_client.then(|| what.clone());
        follow(stdout, sender.clone(), Event::Out, client.clone());
        follow(stderr.expect("it is piped"), sender.clone(), Event::Err, client);
        std::thread::spawn(move || drop(sender.send(Event::Ended(child.wait()))));
        let until = Instant::now() + deadline;
        Live { what, pid, events, stdin, until, out: Vec::new(), err: Vec::new(), open: 2, status: None }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits for a line, of either stream, that holds `part`.
    ///
    /// # Panics
    /// If it ends before it says so, or the deadline passes.
    pub fn line(&mut self, part: &str) -> String {
        while self.status.is_none() || self.open > 0 {
            match self.next(self.until) {
                Next::Line(line) => {
                    let line = String::from_utf8_lossy(&line).into_owned();
                    if line.contains(part) {
                        return line;
                    }
                }
                Next::Other => {}
                Next::Deadline => break,
            }
        }
        panic!("no line with {part:?} from: {}", self.so_far())
    }

    /// Sends a signal to it alone.
    ///
    /// # Panics
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        assert!(self.status.is_none(), "it has ended: {}", self.so_far());
        kill(self.pid, signal).unwrap_or_else(|error| panic!("cannot signal {}: {error}", self.what));
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// Unless it was started by [`Call::start_typing`] and reads.
    pub fn type_in(&mut self, bytes: &[u8]) {
        let stdin = self.stdin.as_mut().expect("started with its input open");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Closes its standard input and waits for its end.
    ///
    /// # Panics
    /// If it does not end in time.
    #[must_use]
    pub fn output(mut self) -> Output {
        drop(self.stdin.take());
        while self.status.is_none() {
            let next = self.next(self.until);
            assert!(!matches!(next, Next::Deadline), "still running at the deadline: {}", self.so_far());
        }
        // A program that it left behind may hold the pipes; what matters has been said by then.
        let left = Instant::now() + LEFT;
        while self.open > 0 && !matches!(self.next(left), Next::Deadline) {}
        let status = self.status.expect("the loop ends with it");
        Output {
            what: self.what.clone(),
            code: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
            stdout: String::from_utf8_lossy(&self.out).into_owned(),
            stderr: String::from_utf8_lossy(&self.err).into_owned(),
        }
    }

    fn next(&mut self, until: Instant) -> Next {
        match self.events.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Event::Out(line)) => {
                self.out.extend_from_slice(&line);
                return Next::Line(line);
            }
            Ok(Event::Err(line)) => {
                self.err.extend_from_slice(&line);
                return Next::Line(line);
            }
            Ok(Event::Closed) => self.open -= 1,
            Ok(Event::Ended(status)) => self.status = Some(status.expect("a child can be waited for")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return Next::Deadline,
        }
        Next::Other
    }

    fn so_far(&self) -> String {
        let (out, err) = (String::from_utf8_lossy(&self.out), String::from_utf8_lossy(&self.err));
        format!("{}\n--- stdout\n{out}--- stderr\n{err}---", self.what)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}
