//! `user-init receive`: a tree arrives.
//!
//! The client writes a [`PushHeader`] line; if no generation has that content it is told [`PushAnswer::Send`] and sends
//! exactly as many bytes as it announced; [`PushAnswer::Done`] is the last line. Reading and hashing go on in one thread while the
//! other unpacks, so that the tree is there when the last byte is. Nothing is synced to disk: the client has the tree, and a
//! tree of another boot is not taken for present.

use std::fs::{self, File};
use std::io::{self, BufRead, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use agent::files;
use contract::job::{PushAnswer, PushHeader};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, umask};
use sha2::{Digest, Sha256};

use super::{Links, Meta, Project, links};
use crate::archive::{self, Refused, Unpacked};
use crate::error::{Error, Result, io_error};

/// Bytes come from the client in pieces of this size...
const PIECE: usize = 256 << 10;
/// ...of which so many may wait to be unpacked: 8 MiB.
const PIECES: usize = 32;
/// Longest first line.
const HEADER_MAX: u64 = 64 << 10;
/// A client that sends nothing for so long is gone; others wait for the lock that we hold.
const STALL: Duration = Duration::from_secs(120);

/// Where the bytes come from: standard input, with a limit on how long it may be silent.
#[derive(Debug)]
pub struct Source(File);

impl Source {
    /// Reads from a descriptor of its own, without a buffer: what is buffered would not wake the wait.
    ///
    /// # Errors
    /// When the descriptor cannot be duplicated.
    pub fn new(fd: impl AsFd) -> io::Result<Self> {
        Ok(Self(fd.as_fd().try_clone_to_owned()?.into()))
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let timeout = PollTimeout::try_from(STALL).unwrap_or(PollTimeout::MAX);
        if poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.0.read(buffer)
    }
}

/// Runs the exchange. `say` is for lines to a person.
///
/// # Errors
/// The tree and `current` are as before whenever this fails.
pub fn receive(
    projects: &Path,
    boot: &str,
    input: &mut impl BufRead,
    output: &mut impl Write,
    mut say: impl FnMut(&str),
) -> Result<Project> {
    let header = read_header(input)?;
    let project = Project::new(projects, &header.project)?;
    let _lock = project.lock("push.lock", || {
        say(&format!("another push of {:?} is under way: waiting for it to end", header.project));
    })?;
    if let Some(there) = find(&project, &header.sha256, boot)? {
        project.make_current(there)?;
        links::place(&project.tree(there), &Links::of(&project))?;
        answer(output, &PushAnswer::Done(project.describe(there, true)?))?;
        return Ok(project);
    }
    answer(output, &PushAnswer::Send)?;
    let staging = Staging::new(&project)?;
    let unpacked = take(input, &header, &staging.dir)?;
    let generation = commit(&project, &header, boot, staging, &unpacked)?;
    answer(output, &PushAnswer::Done(project.describe(generation, false)?))?;
    Ok(project)
}

fn read_header(input: &mut impl BufRead) -> Result<PushHeader> {
    let mut line = Vec::new();
    let read = input.by_ref().take(HEADER_MAX).read_until(b'\n', &mut line);
    read.map_err(|e| Error::Transfer(format!("the header could not be read: {e}")))?;
    if line.pop() != Some(b'\n') {
        return Err(Error::Transfer("the connection ended before the header did".into()));
    }
    let header: PushHeader = serde_json::from_slice(&line)
        .map_err(|e| Error::Usage(format!("the push's header is wrong: {e}")))?;
    let hex = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
    if header.sha256.len() != 64 || !header.sha256.bytes().all(hex) {
        return Err(Error::Usage("the push's sha256 is not 64 lower-case hex digits".into()));
    }
    Ok(header)
}

fn answer(output: &mut impl Write, answer: &PushAnswer) -> Result<()> {
    let mut line = serde_json::to_vec(answer).map_err(|e| Error::Transfer(e.to_string()))?;
    line.push(b'\n');
    let gone = |e: io::Error| Error::Transfer(format!("the client is gone: {e}"));
    output.write_all(&line).map_err(gone)?;
    output.flush().map_err(gone)
}

/// A generation with that content which is safely there.
fn find(project: &Project, sha256: &str, boot: &str) -> Result<Option<u64>> {
    for generation in project.numbers()?.into_iter().rev() {
        if project.meta(generation)?.is_some_and(|m| m.sha256 == sha256 && m.boot == boot) {
            return Ok(Some(generation));
        }
    }
    Ok(None)
}

/// The folder that is filled; gone when dropped, whatever failed.
struct Staging {
    dir: std::path::PathBuf,
}

impl Staging {
    /// The lock is held: what is there already was left by a push that was killed.
    fn new(project: &Project) -> Result<Self> {
        let dir = project.dir.join(".incoming");
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(io_error("remove", &dir))?;
        }
        umask(Mode::from_bits_truncate(0o022));
        fs::create_dir(&dir).map_err(io_error("make", &dir))?;
        Ok(Self { dir })
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Renamed away after success; otherwise the next push removes what this cannot.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Reads and hashes here, unpacks in a thread.
fn take(input: &mut impl Read, header: &PushHeader, dir: &Path) -> Result<Unpacked> {
    let (send, pieces) = sync_channel(PIECES);
    let (give_back, empty) = sync_channel(PIECES);
    std::thread::scope(|scope| {
        let unpacking = scope.spawn(move || {
            let mut pieces = Pieces { pieces, give_back, piece: Vec::new(), at: 0 };
            let unpacked = archive::unpack(&mut pieces, dir)?;
            // What follows the end marker belongs to the N bytes too.
            io::copy(&mut pieces, &mut io::sink()).map_err(|e| Refused::Malformed(e.to_string()))?;
            Ok::<_, Refused>(unpacked)
        });
        let hash = pump(input, header.bytes, send, &empty);
        let unpacked =
            unpacking.join().unwrap_or_else(|_| Err(Refused::Malformed("unpacking panicked".into())));
        match (hash, unpacked) {
            // The cause of a stop in the middle is what unpacking says; but an early end of the bytes makes it fail as well.
            (Err(e), _) => Err(e),
            (Ok(None), Err(e)) => Err(e.into()),
            (Ok(Some(hash)), _) if hash != header.sha256 => Err(Error::Transfer(format!(
                "what arrived is not what was sent: sha256 {hash} instead of {}",
                header.sha256
            ))),
            (_, unpacked) => Ok(unpacked?),
        }
    })
}

/// Passes `bytes` bytes on. `None`: unpacking gave up. Otherwise their sha256.
fn pump(
    input: &mut impl Read,
    bytes: u64,
    send: SyncSender<Vec<u8>>,
    empty: &Receiver<Vec<u8>>,
) -> Result<Option<String>> {
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        let mut piece = empty.try_recv().unwrap_or_default();
        piece.resize(PIECE.min(usize::try_from(left).unwrap_or(PIECE)), 0);
        let mut filled = 0;
        // Full pieces: pipes give 64 KiB and less at a time.
        while filled < piece.len() {
            match input.read(&mut piece[filled..]) {
                Ok(0) => return Err(cut_off(bytes - left + filled as u64, bytes)),
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::TimedOut => {
                    let text = format!("nothing arrived for {} s: the client is gone", STALL.as_secs());
                    return Err(Error::Transfer(text));
                }
                Err(e) => return Err(Error::Transfer(format!("the bytes could not be read: {e}"))),
            }
        }
        hash.update(&piece);
        left -= piece.len() as u64;
        if send.send(piece).is_err() {
            return Ok(None);
        }
    }
    Ok(Some(hash.finalize().iter().map(|b| format!("{b:02x}")).collect()))
}

fn cut_off(arrived: u64, announced: u64) -> Error {
    Error::Transfer(format!(
        "the connection ended after {arrived} of {announced} bytes; the tree is as it was"
    ))
}

/// The unpacking thread's view of what arrives.
struct Pieces {
    pieces: Receiver<Vec<u8>>,
    give_back: SyncSender<Vec<u8>>,
    piece: Vec<u8>,
    at: usize,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            // The sender is gone: the end, good or bad; the hash tells which.
            let Ok(next) = self.pieces.recv() else { return Ok(0) };
            let used = std::mem::replace(&mut self.piece, next);
            // Nobody waits for it at the end.
            let _ = self.give_back.try_send(used);
            self.at = 0;
        }
        let n = buffer.len().min(self.piece.len() - self.at);
        buffer[..n].copy_from_slice(&self.piece[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// The record, then the tree under its number, then `current`: whoever is killed in between leaves a record or a tree that
/// nobody uses.
fn commit(
    project: &Project,
    header: &PushHeader,
    boot: &str,
    staging: Staging,
    unpacked: &Unpacked,
) -> Result<u64> {
    let newest = project.numbers()?.last().copied().unwrap_or(0);
    let generation = newest + 1;
    let meta = Meta {
        sha256: header.sha256.clone(),
        label: header.label.clone(),
        from: header.from.clone(),
        boot: boot.to_owned(),
        results: unpacked.results.iter().filter_map(|n| n.to_str().map(str::to_owned)).collect(),
    };
    files::write_json(&project.meta_dir(), &format!("{generation:06}.json"), &meta)?;
    links::place(&staging.dir, &Links::of(project))?;
    set_time(&staging.dir, unpacked.latest)?;
    let tree = project.tree(generation);
    fs::rename(&staging.dir, &tree).map_err(io_error("put in place", &tree))?;
    project.make_current(generation)?;
    Ok(generation)
}

/// The links have changed the root's time.
fn set_time(dir: &Path, seconds: i64) -> Result<()> {
    let time = nix::sys::time::TimeSpec::new(seconds, 0);
    let file = File::open(dir).map_err(io_error("open", dir))?;
    nix::sys::stat::futimens(&file, &time, &time).map_err(crate::error::errno("set the time of", dir))
}
