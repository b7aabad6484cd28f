//! Signals on their way to a session's command.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, tcgetpgrp};

use crate::Place;
use crate::error::{Error, Result, io_error};

/// Signals of a session: a handler that does nothing and not "ignore", which the child would inherit.
pub(super) struct Caught {
    pub(super) pipe: UnixStream,
    flags: Vec<(Signal, Arc<AtomicBool>)>,
}

impl Caught {
    pub(super) fn install() -> io::Result<Self> {
        let (pipe, write) = UnixStream::pair()?;
        pipe.set_nonblocking(true)?;
        let flag = |signal: Signal| {
            let flag = Arc::new(AtomicBool::new(false));
            signal_hook::flag::register(signal as i32, Arc::clone(&flag))?;
            Ok((signal, flag))
        };
        // The strongest first.
        let signals = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGINT];
        let flags = signals.into_iter().map(flag).collect::<io::Result<_>>()?;
        for signal in signals.into_iter().chain([Signal::SIGCHLD]) {
            signal_hook::low_level::pipe::register(signal as i32, write.try_clone()?)?;
        }
        Ok(Self { pipe, flags })
    }

    /// What to pass on. In a terminal SIGINT and SIGQUIT come from a key, and whoever is in its foreground has them.
    pub(super) fn drain(&self, terminal: bool) -> Option<Signal> {
        let mut bytes = [0; 64];
        while matches!((&self.pipe).read(&mut bytes), Ok(n) if n > 0) {}
        let came = self.flags.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
        let came: Vec<Signal> = came.map(|(signal, _)| *signal).collect();
        came.into_iter().find(|signal| !terminal || !matches!(signal, Signal::SIGINT | Signal::SIGQUIT))
    }
}

/// To the child and what it started: its group, or, in a terminal, whatever is in the foreground.
pub(super) fn send(child: &Child, signal: Signal, terminal: bool) {
    let Ok(id) = i32::try_from(child.id()) else { return };
    let pid = Pid::from_raw(id);
    // Each may have ended by now.
    if terminal {
        if let Ok(foreground) = tcgetpgrp(io::stdin()) {
            if foreground != nix::unistd::getpgrp() {
                let _ = killpg(foreground, signal);
            }
        }
        let _ = kill(pid, signal);
        if signal == Signal::SIGHUP {
            // An interactive shell that is stopped or ignores it wakes up for it.
            let _ = kill(pid, Signal::SIGCONT);
        }
    } else {
        let _ = killpg(pid, signal);
    }
}

/// Sends a signal to the session that was started with `--id ID`, for a client that has none of its terminals.
///
/// # Errors
/// When `/proc` cannot be read, or the signal is none that a session passes on.
pub fn signal(place: &Place, id: &str, name: &str) -> Result<()> {
    let signal = match name {
        "int" => Signal::SIGINT,
        "term" => Signal::SIGTERM,
        "hup" => Signal::SIGHUP,
        other => return Err(Error::Usage(format!("a signal is int, term or hup, not {other:?}"))),
    };
    let proc = &place.paths.proc;
    let wanted = format!("\0--id\0{id}\0");
    for entry in std::fs::read_dir(proc).map_err(io_error("read", proc))?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // A process that has ended by now, or is somebody else's, is not the one.
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        // Whatever runs in the session may show the same words, but not before the command's own dashes.
        let ours = String::from_utf8_lossy(&words);
        let ours = ours.split("\0--\0").next().unwrap_or_default();
        if ours.contains("\0session\0") && format!("{ours}\0").contains(&wanted) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
    }
    Ok(())
}
