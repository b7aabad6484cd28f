//! Files of a new tree get their content: from the client, or from a tree that is there already. Either way it is hashed,
//! and a file whose content is not what its id says is not made.
//!
//! Two threads take turns at reading from the client; while one reads, the other hashes and writes what it has read. A third
//! copies what is there.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::tree::{Entry, FRAME, Frame, Kind};

use super::id::{self, Hash};
use crate::error::{Error, Result, io_error};
use crate::tree::{Tree, set_time};

/// Threads that take from the client: more would wait for the file system's own locks.
const TAKERS: usize = 2;
/// Most that one of them reads before it lets the other read. Larger files are shared, piece by piece.
const PIECE: usize = 4 << 20;
/// What is copied is hashed in pieces of this size.
const COPIED: usize = 256 << 10;

/// A file of another tree, whose id was this once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Copy {
    /// In the new tree's manifest.
    pub(super) index: u32,
    /// The other tree.
    pub(super) root: PathBuf,
    /// In it.
    pub(super) path: Vec<u8>,
}

/// The new tree.
pub(super) struct Content<'a> {
    /// Its folders are there.
    pub(super) root: &'a Path,
    /// Its manifest.
    pub(super) entries: &'a [Entry],
}

impl Content<'_> {
    /// The file with this index.
    fn file(&self, index: u32) -> Result<(&[u8], bool, &str)> {
        let entry = usize::try_from(index).ok().and_then(|index| self.entries.get(index));
        match entry {
            Some(Entry { path, kind: Kind::File { executable, id } }) => Ok((path, *executable, id)),
            _ => Err(unasked(index)),
        }
    }

    /// Makes the `asked` files from what `input` holds, up to its end mark, and the others from copies. Returns those that
    /// were not what their ids say.
    pub(super) fn fill(
        &self,
        input: &mut (impl Read + Send),
        asked: &[u32],
        copies: &[Copy],
    ) -> Result<Vec<u32>> {
        let incoming = Mutex::new(Incoming {
            input,
            asked: asked.iter().copied().collect(),
            large: None,
            ended: asked.is_empty(),
        });
        let failed = std::thread::scope(|scope| {
            let copier = (!copies.is_empty()).then(|| scope.spawn(|| self.copy(copies)));
            let takers: Vec<_> = (0..TAKERS)
                .map(|_| scope.spawn(|| self.take(&incoming).inspect_err(|_| stop(&incoming))))
                .collect();
            let all = takers.into_iter().chain(copier).map(|thread| {
                thread.join().unwrap_or_else(|_| Err(Error::Transfer("a thread of the push panicked".into())))
            });
            // All of them are waited for, whichever failed.
            let all: Vec<_> = all.collect();
            all.into_iter().collect::<Result<Vec<_>>>()
        })?;
        Ok(failed.concat())
    }

    fn take<R: Read>(&self, incoming: &Mutex<Incoming<'_, R>>) -> Result<Vec<u32>> {
        let mut tree = Tree::open(self.root)?;
        let mut buffer = Vec::new();
        let mut failed = Vec::new();
        while let Some(part) = lock(incoming).next(self, &mut tree, &mut buffer)? {
            match part {
                Part::Whole { index, length } => {
                    let (path, executable, id) = self.file(index)?;
                    let bytes = &buffer[..length];
                    let mut hash = Hash::like(id, length as u64);
                    hash.update(bytes);
                    if !hash.is(id) {
                        failed.push(index);
                        continue;
                    }
                    let mut file = tree.create(path, executable)?;
                    file.write_all(bytes).map_err(io_error("write", &tree.full(path)))?;
                    set_time(&file, &tree.full(path))?;
                }
                Part::Piece { of, at, length, good } => {
                    let (path, _, _) = self.file(of.index)?;
                    of.file
                        .write_all_at(&buffer[..length], at)
                        .map_err(io_error("write", &tree.full(path)))?;
                    if good == Some(false) {
                        failed.push(of.index);
                        tree.remove(path)?;
                    }
                    // Each piece changes the time: whoever writes the last one sets it.
                    if of.left.fetch_sub(length as u64, Ordering::AcqRel) == length as u64 {
                        set_time(&of.file, &tree.full(path))?;
                    }
                }
            }
        }
        Ok(failed)
    }

    /// Makes files from those of other trees. Returns those that have changed or gone there.
    pub(super) fn copy(&self, copies: &[Copy]) -> Result<Vec<u32>> {
        let mut tree = Tree::open(self.root)?;
        let mut others: HashMap<&Path, Option<Tree>> = HashMap::new();
        let mut buffer = vec![0; COPIED];
        let mut failed = Vec::new();
        for copy in copies {
            let other = others.entry(&copy.root).or_insert_with(|| Tree::open(&copy.root).ok());
            let from = other.as_mut().and_then(|other| other.read(&copy.path));
            let (path, executable, id) = self.file(copy.index)?;
            let Some(mut from) = from else {
                failed.push(copy.index);
                continue;
            };
            let full = tree.full(path);
            let mut file = tree.create(path, executable)?;
            // Shares the blocks where the file system can.
            let length = io::copy(&mut from, &mut file).map_err(io_error("copy to", &full))?;
            let mut again = At { file: &file, at: 0 };
            if id::is(&mut again, length, id, &mut buffer).map_err(io_error("read", &full))? {
                set_time(&file, &full)?;
            } else {
                tree.remove(path)?;
                failed.push(copy.index);
            }
        }
        Ok(failed)
    }
}

fn unasked(index: u32) -> Error {
    Error::Transfer(format!("the client sent a file that nobody asked for, number {index}"))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop<R>(incoming: &Mutex<Incoming<'_, R>>) {
    lock(incoming).ended = true;
}

/// A file from its beginning, whoever else writes to it.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read_at(buffer, self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// What the client sends, read by one thread at a time.
struct Incoming<'a, R> {
    input: &'a mut R,
    asked: BTreeSet<u32>,
    /// The file that is on its way, if it comes in pieces.
    large: Option<Large>,
    ended: bool,
}

struct Large {
    of: Arc<Shared>,
    hash: Hash,
    length: u64,
    at: u64,
}

/// What the writers of a large file share.
struct Shared {
    index: u32,
    file: File,
    /// Bytes that have not been written.
    left: AtomicU64,
}

/// What one thread has read.
enum Part {
    Whole { index: u32, length: usize },
    Piece { of: Arc<Shared>, at: u64, length: usize, good: Option<bool> },
}

/// The first `length` bytes of a buffer that only grows: filling it with zeros each time would take as long as reading.
fn room(buffer: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if buffer.len() < length {
        buffer.resize(length, 0);
    }
    &mut buffer[..length]
}

impl<R: Read> Incoming<'_, R> {
    /// Reads into `buffer`; nothing at the end mark. After a failure there is nothing for the other thread either: it would
    /// take what follows for something else.
    fn next(&mut self, to: &Content<'_>, tree: &mut Tree, buffer: &mut Vec<u8>) -> Result<Option<Part>> {
        let part = self.read(to, tree, buffer);
        self.ended |= part.is_err();
        part
    }

    fn read(&mut self, to: &Content<'_>, tree: &mut Tree, buffer: &mut Vec<u8>) -> Result<Option<Part>> {
        if self.ended {
            return Ok(None);
        }
        if self.large.is_some() {
            return self.piece(to, buffer).map(Some);
        }
        let mut frame = [0; FRAME];
        self.exact(&mut frame)?;
        let Frame::File { index, length } = Frame::parse(frame) else {
            self.ended = true;
            return match self.asked.len() {
                0 => Ok(None),
                n => Err(Error::Transfer(format!(
                    "the client did not send {n} of the files that it was asked for"
                ))),
            };
        };
        if !self.asked.remove(&index) {
            return Err(unasked(index));
        }
        let (path, executable, id) = to.file(index)?;
        if length <= PIECE as u64 {
            let length = usize::try_from(length).unwrap_or(PIECE);
            self.exact(room(buffer, length))?;
            return Ok(Some(Part::Whole { index, length }));
        }
        let file = tree.create(path, executable)?;
        let of = Arc::new(Shared { index, file, left: AtomicU64::new(length) });
        self.large = Some(Large { of, hash: Hash::like(id, length), length, at: 0 });
        self.piece(to, buffer).map(Some)
    }

    fn piece(&mut self, to: &Content<'_>, buffer: &mut Vec<u8>) -> Result<Part> {
        // Taken out: a failure leaves none behind.
        let Some(mut large) = self.large.take() else { return Err(unasked(u32::MAX)) };
        let length = usize::try_from(large.length - large.at).unwrap_or(PIECE).min(PIECE);
        let piece = room(buffer, length);
        self.exact(piece)?;
        large.hash.update(piece);
        let (of, at) = (Arc::clone(&large.of), large.at);
        large.at += length as u64;
        if large.at < large.length {
            self.large = Some(large);
            return Ok(Part::Piece { of, at, length, good: None });
        }
        let (_, _, id) = to.file(of.index)?;
        Ok(Part::Piece { of, at, length, good: Some(large.hash.is(id)) })
    }

    fn exact(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.input.read_exact(buffer).map_err(|e| super::receive::cut(&e))
    }
}
