//! A command with our own standard streams, or on our terminal.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;

use bytes::Bytes;
use kube::api::AttachParams;
use rustix::termios::{self, OptionalActions, Termios};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::channel::{self, FRAME};
use super::client::Cluster;
use super::exec::{Ended, STATUS, STDERR, STDOUT};
use super::liveness::Lost;
use super::start::Incoming;
use super::target::Target;
use crate::engine::entry::{Entrance, Entry};
use crate::error::{CliError, Result, While};

/// Parts of the output on their way to the terminal.
const OUT: usize = 32;
/// Sets a variable for the command; the protocol has no way to do so.
const ENV: &str = "/usr/bin/env";
/// What a shell shows for a command that a signal ended.
const BY_SIGNAL: i32 = 128;
const SIGPIPE: i32 = 13;

/// Runs it to its end, and gives its exit code.
pub(super) async fn attach(
    cluster: &Cluster,
    target: &Target,
    argv: &[OsString],
    tty: bool,
    entry: Entry,
) -> Result<i32> {
    let argv = words(argv, tty)?;
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    // On a terminal there is one stream of output.
    let params = AttachParams { stdin: true, stdout: true, stderr: !tty, tty, ..AttachParams::default() };
    let (mut incoming, input) = target.start(cluster, &argv, params).await?;
    // Before, signals end us as they end any program; without a terminal after as well, unless our caller watches for them.
    let (signals, raw) = if tty { (Some(Signals::new()?), Some(Raw::new()?)) } else { (None, None) };
    if tty {
        resize(&mut incoming).await;
    }
    read(input)?;
    let (pieces, written) = write()?;
    let mut entrance = Entrance::new(entry);
    let shown = |to_stderr, bytes| if tty || to_stderr { entrance.pass(bytes) } else { bytes };
    let end = carry(incoming, &pieces, signals, shown).await;
    // Nobody may be there to read it.
    let _ = pieces.send((!tty, entrance.rest())).await;
    drop(pieces);
    // What came before the end is shown before anything is said about it.
    let _ = written.await;
    drop(raw);
    match end {
        Ok(End::Command(Ended::Code(code))) if entrance.was_closed(code) => Err(target.not_let_in()),
        Ok(End::Command(ended)) => target.code(cluster.ui, ended),
        Ok(End::Signal(number)) => Ok(BY_SIGNAL + number),
        Err(lost) => Err(target.lost(&lost)),
    }
}

/// As the API takes them.
fn words(argv: &[OsString], tty: bool) -> Result<Vec<String>> {
    let mut words = Vec::with_capacity(argv.len() + 2);
    if let Some(term) = std::env::var_os("TERM").filter(|term| tty && !term.is_empty()) {
        words.extend([ENV.to_owned(), format!("TERM={}", term.to_string_lossy())]);
    }
    for word in argv {
        let Some(word) = word.to_str() else {
            return Err(CliError::usage(format!(
                "{} is no UTF-8, and the API server carries nothing else",
                word.to_string_lossy()
            ))
            .hint("`trampoline-cli ssh -- CMD` takes it as it is"));
        };
        words.push(word.to_owned());
    }
    Ok(words)
}

enum End {
    Command(Ended),
    /// Of ours.
    Signal(i32),
}

/// One part of the output, and whether it is for stderr.
type Piece = (bool, Bytes);

async fn carry(
    mut incoming: Incoming,
    pieces: &mpsc::Sender<Piece>,
    mut signals: Option<Signals>,
    mut shown: impl FnMut(bool, Bytes) -> Bytes,
) -> std::result::Result<End, Lost> {
    loop {
        tokio::select! {
            message = incoming.next() => match message? {
                Some((channel @ (STDOUT | STDERR), bytes)) => {
                    let to_stderr = channel == STDERR;
                    if pieces.send((to_stderr, shown(to_stderr, bytes))).await.is_err() {
                        // Nobody reads what it writes: it ends as it would here.
                        return Ok(End::Signal(SIGPIPE));
                    }
                }
                Some((STATUS, bytes)) => return Ok(End::Command(Ended::parse(&bytes))),
                Some(_) => {}
                None => return Err(Lost("it was closed before the command had ended".to_owned())),
            },
            // In raw mode a key press is a byte for the command, and these come from elsewhere.
            told = next(&mut signals) => match told {
                None => resize(&mut incoming).await,
                Some(number) => return Ok(End::Signal(number)),
            },
        }
    }
}

/// Tells the command how large its terminal is.
async fn resize(incoming: &mut Incoming) {
    // Without a size it keeps the one that it has.
    let Ok(size) = termios::tcgetwinsize(io::stdout()) else { return };
    let size = serde_json::json!({ "Width": size.ws_col, "Height": size.ws_row });
    incoming.resize(size.to_string().as_bytes()).await;
}

/// What ends us, and the terminal's size.
struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
    window: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let on = |kind| signal(kind).during("cannot watch for signals");
        Ok(Self {
            interrupt: on(SignalKind::interrupt())?,
            quit: on(SignalKind::quit())?,
            terminate: on(SignalKind::terminate())?,
            hang_up: on(SignalKind::hangup())?,
            window: on(SignalKind::window_change())?,
        })
    }

    /// What would end us; none for another size of the terminal.
    async fn next(&mut self) -> Option<i32> {
        let kind = tokio::select! {
            _ = self.interrupt.recv() => SignalKind::interrupt(),
            _ = self.quit.recv() => SignalKind::quit(),
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.hang_up.recv() => SignalKind::hangup(),
            _ = self.window.recv() => return None,
        };
        Some(kind.as_raw_value())
    }
}

/// What the signals tell, if anybody watches for them.
async fn next(signals: &mut Option<Signals>) -> Option<i32> {
    match signals {
        Some(signals) => signals.next().await,
        None => std::future::pending().await,
    }
}

/// Our terminal passes every key on while this lives.
struct Raw(Termios);

impl Raw {
    fn new() -> Result<Self> {
        let doing = "cannot set up the terminal";
        let before = termios::tcgetattr(io::stdin()).map_err(io::Error::from).during(doing)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(io::stdin(), OptionalActions::Now, &raw).map_err(io::Error::from).during(doing)?;
        Ok(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that has gone needs nothing.
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// A thread of its own: it may wait for a key press for ever, and nobody waits for it.
fn read(input: mpsc::Sender<Bytes>) -> Result<()> {
    let mut stdin =
        std::fs::File::from(io::stdin().as_fd().try_clone_to_owned().during("cannot read stdin")?);
    std::thread::Builder::new()
        .name("stdin".to_owned())
        .spawn(move || {
            let mut part = vec![0; FRAME];
            loop {
                match stdin.read(&mut part) {
                    Ok(n) if n > 0 => {
                        if input.blocking_send(channel::frame(0, &part[..n])).is_err() {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The command is told by the end of the channel.
                    Ok(_) | Err(_) => return,
                }
            }
        })
        .during("cannot read stdin")
        .map(drop)
}

/// Both streams in the order in which they came, on the bare descriptors: what does not end a line is shown at once.
fn write() -> Result<(mpsc::Sender<Piece>, tokio::task::JoinHandle<()>)> {
    let doing = "cannot write to stdout";
    let mut stdout = std::fs::File::from(io::stdout().as_fd().try_clone_to_owned().during(doing)?);
    let mut stderr = std::fs::File::from(io::stderr().as_fd().try_clone_to_owned().during(doing)?);
    let (sender, mut pieces) = mpsc::channel::<Piece>(OUT);
    let written = tokio::task::spawn_blocking(move || {
        while let Some((is_error, bytes)) = pieces.blocking_recv() {
            let done = if is_error { stderr.write_all(&bytes) } else { stdout.write_all(&bytes) };
            // Without a stderr the data is still wanted.
            if done.is_err() && !is_error {
                return;
            }
        }
    });
    Ok((sender, written))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use contract::places::Container;

    use super::*;
    use crate::engine::kubernetes::fake;

    /// `maintenance` has nobody who would pass a signal on: it must end by it.
    #[tokio::test]
    async fn without_a_terminal_signals_are_left_as_they_are() {
        let (cluster, _) = fake::cluster(|_| None).await;
        let target = Target::new("a", Container::Maintenance);
        let code = attach(&cluster, &target, &["true".into()], false, Entry::Unasked).await;
        assert_eq!(code.expect("it ends well"), 0);
        // The server takes a WebSocket alone: it is not asked for anything else again.
        assert!(!cluster.passes_spdy());
        let status = std::fs::read_to_string("/proc/self/status").expect("is there");
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).expect("is told");
        let caught = u64::from_str_radix(caught.trim(), 16).expect("a mask");
        for kind in
            [SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate(), SignalKind::hangup()]
        {
            let bit = 1 << (kind.as_raw_value() - 1);
            assert_eq!(caught & bit, 0, "{kind:?} is caught");
        }
    }
}
