//! `user-init job follow`: the log as it grows, then the end. A lost connection goes on from the offset behind the last event.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::Duration;

use contract::base64;
use contract::job::FollowEvent;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::{Jobs, name};
use crate::error::{Error, Result, io_error};

/// So many bytes of log go into one event.
const BATCH: usize = 64 << 10;
/// A line without an end is passed on in parts of this length.
const LINE_MAX: usize = 1 << 20;
/// Where the kernel's watches are used up, one look a second.
const LOOK: Duration = Duration::from_secs(1);

/// Writes [`FollowEvent`] lines for a job until it has ended, or, without `wait`, until all that there is has been told.
/// `reader` is the descriptor of whoever listens: when it goes there is no point in waiting.
///
/// # Errors
/// When there is no such job, its log cannot be read, or the listener is gone.
pub fn follow(
    jobs: &Jobs,
    id: &str,
    from: u64,
    wait: bool,
    output: &mut impl Write,
    reader: Option<BorrowedFd<'_>>,
) -> Result<()> {
    let dir = &jobs.folder(id)?;
    let path = dir.join(name::LOG);
    let failed = || io_error("follow", &path);
    // Before the first look, so that nothing is missed between look and wait.
    let watch = watch(dir).map_err(failed())?;
    let mut log = File::open(&path).map_err(failed())?;
    // Whoever wants nothing of it is at its end.
    let from = from.min(log.metadata().map_err(failed())?.len());
    log.seek(SeekFrom::Start(from)).map_err(failed())?;
    let mut tail = Tail { log, next: from, rest: Vec::new() };
    loop {
        // The end first: what was written before it is then read behind it.
        let end = jobs.end(dir)?;
        while let Some(event) = tail.read(end.is_some() || !wait).map_err(failed())? {
            emit(output, &event).map_err(failed())?;
        }
        if let Some(end) = end {
            return emit(output, &FollowEvent::End(end)).map_err(failed());
        }
        if !wait {
            return emit(output, &FollowEvent::SoFar).map_err(failed());
        }
        output.flush().map_err(failed())?;
        if !path.exists() {
            return Err(Error::NotFound("the job was removed while it was followed".into()));
        }
        if !wait_for_more(watch.as_ref(), reader).map_err(failed())? {
            return Err(failed()(io::ErrorKind::BrokenPipe.into()));
        }
    }
}

fn emit(output: &mut impl Write, event: &FollowEvent) -> io::Result<()> {
    serde_json::to_writer(&mut *output, event)?;
    output.write_all(b"\n")?;
    output.flush()
}

/// The log and what has been read of it.
struct Tail {
    log: File,
    /// Offset behind the last byte that was passed on.
    next: u64,
    /// Read, but no whole line yet.
    rest: Vec<u8>,
}

impl Tail {
    /// The next whole lines; with `all` also a last one without its newline. `None`: nothing more now.
    fn read(&mut self, all: bool) -> io::Result<Option<FollowEvent>> {
        let mut piece = vec![0; BATCH];
        loop {
            let n = self.log.read(&mut piece)?;
            self.rest.extend_from_slice(&piece[..n]);
            let end = match self.rest.iter().rposition(|b| *b == b'\n') {
                Some(at) => at + 1,
                None if self.rest.len() >= LINE_MAX || (n == 0 && all) => self.rest.len(),
                None if n == 0 => return Ok(None),
                None => continue,
            };
            if end == 0 {
                return Ok(None);
            }
            let piece: Vec<u8> = self.rest.drain(..end).collect();
            self.next += end as u64;
            let next = self.next;
            return Ok(Some(match String::from_utf8(piece) {
                Ok(text) => FollowEvent::Log { text, next },
                Err(error) => FollowEvent::Bytes { base64: base64::encode(error.as_bytes()), next },
            }));
        }
    }
}

/// The log growing, or the end appearing. `None` where the kernel's watches are used up.
fn watch(dir: &Path) -> io::Result<Option<Inotify>> {
    let made = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).and_then(|inotify| {
        inotify.add_watch(
            dir,
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE,
        )?;
        Ok(inotify)
    });
    match made {
        Ok(inotify) => Ok(Some(inotify)),
        Err(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// False when the listener is gone.
fn wait_for_more(watch: Option<&Inotify>, reader: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let mut fds = Vec::new();
    fds.extend(reader.map(|fd| PollFd::new(fd, PollFlags::empty())));
    fds.extend(watch.map(|w| PollFd::new(w.as_fd(), PollFlags::POLLIN)));
    let timeout = match watch {
        Some(_) => PollTimeout::NONE,
        None => PollTimeout::try_from(LOOK).unwrap_or(PollTimeout::MAX),
    };
    match poll(&mut fds, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(e.into()),
    }
    if reader.is_some() && fds[0].any().unwrap_or(false) {
        return Ok(false);
    }
    if let Some(watch) = watch {
        // Only that something happened counts; `EAGAIN` when all is read.
        while watch.read_events().is_ok() {}
    }
    Ok(true)
}
