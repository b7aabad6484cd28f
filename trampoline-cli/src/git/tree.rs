//! A tree as `git archive` would hold it: which files, and where their content is.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use contract::tree::{self, Entry, Frame, Kind};

use super::cooked::{Cooked, Part};
use super::{Repo, objects};
use crate::error::{CliError, Result, While};

/// What is pushed.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(super) repo: Repo,
    /// Under which git finds the objects.
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) entries: Vec<Entry>,
    /// Where each entry's content is.
    pub(super) origins: Vec<Origin>,
    pub(super) cooked: Option<Cooked>,
    /// Paths of submodules, of which an archive holds an empty folder.
    pub(crate) submodules: Vec<String>,
}

/// Where an entry's content is.
#[derive(Debug, Clone)]
pub(super) enum Origin {
    /// It has none.
    Nowhere,
    /// In a blob of the same id; `checked_out`: also in the working tree, as far as git knows.
    Blob {
        checked_out: bool,
    },
    Cooked(Part),
}

/// Where the bytes go.
pub(crate) trait Sink: Write {
    /// So many bytes of a file from where it stands; fewer where it ends before.
    fn file(&mut self, from: &File, length: u64) -> io::Result<u64>;
}

impl Sink for File {
    fn file(&mut self, from: &File, length: u64) -> io::Result<u64> {
        // Into a pipe, the kernel does not even copy them.
        io::copy(&mut from.take(length), self)
    }
}

/// Why sending stopped.
pub(crate) enum Stopped {
    /// Nobody reads any more; the reader says why.
    Sink(io::Error),
    /// Content could not be read.
    Ours(CliError),
}

impl From<CliError> for Stopped {
    fn from(error: CliError) -> Self {
        Self::Ours(error)
    }
}

impl Tree {
    /// See [`contract::tree`].
    pub(crate) fn manifest(&self) -> Vec<u8> {
        tree::encode(&self.entries)
    }

    /// Files, links and folders that are empty.
    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Sends these files and the end mark. Unless `certain`, a file that git takes for unchanged comes from the working tree,
    /// whatever it holds by now: the receiver asks again for what is not what it should be. `sent` is told the number of
    /// files, and of bytes.
    pub(crate) fn send(
        &self,
        files: &[u32],
        certain: bool,
        sink: &mut impl Sink,
        mut sent: impl FnMut(u64, u64),
    ) -> std::result::Result<(), Stopped> {
        let mut blobs = Vec::new();
        let (mut count, mut bytes) = (0, 0);
        let mut told = |length: u64| {
            count += 1;
            bytes += length;
            sent(count, bytes);
        };
        for &index in files {
            let (entry, origin) = self.at(index)?;
            match origin {
                Origin::Nowhere => return Err(unknown(index).into()),
                Origin::Cooked(part) => told(self.send_cooked(index, part, sink)?),
                Origin::Blob { checked_out } => match self.open(entry, *checked_out && !certain) {
                    Some((file, length)) => {
                        let sent = frame(sink, index, length).and_then(|()| sink.file(&file, length));
                        fill(sink, length - sent.map_err(Stopped::Sink)?)?;
                        told(length);
                    }
                    None => blobs.push(index),
                },
            }
        }
        if !blobs.is_empty() {
            self.send_blobs(&blobs, sink, &mut told)?;
        }
        sink.write_all(&Frame::End.encode()).and_then(|()| sink.flush()).map_err(Stopped::Sink)
    }

    fn at(&self, index: u32) -> Result<(&Entry, &Origin)> {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        self.entries.get(at).zip(self.origins.get(at)).ok_or_else(|| unknown(index))
    }

    /// In the working tree, if it is a file there.
    fn open(&self, entry: &Entry, wanted: bool) -> Option<(File, u64)> {
        if !wanted {
            return None;
        }
        let path = self.repo.top.join(OsStr::from_bytes(&entry.path));
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        // The constants are those of the system's open(2), which fit.
        let flags = i32::try_from(flags.bits()).ok()?;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
        Some((file, meta.len()))
    }

    fn send_cooked(
        &self,
        index: u32,
        part: &Part,
        sink: &mut impl Sink,
    ) -> std::result::Result<u64, Stopped> {
        let cooked = self.cooked.as_ref().ok_or_else(|| unknown(index))?;
        let mut file = &cooked.file;
        file.seek(SeekFrom::Start(part.at)).during("cannot read a temporary file")?;
        let sent = frame(sink, index, part.length).and_then(|()| sink.file(file, part.length));
        fill(sink, part.length - sent.map_err(Stopped::Sink)?)?;
        Ok(part.length)
    }

    fn send_blobs(
        &self,
        blobs: &[u32],
        sink: &mut impl Sink,
        told: &mut impl FnMut(u64),
    ) -> std::result::Result<(), Stopped> {
        let mut ids = Vec::with_capacity(blobs.len());
        for &index in blobs {
            match &self.at(index)?.0.kind {
                Kind::File { id, .. } => ids.push(id.as_str()),
                _ => return Err(unknown(index).into()),
            }
        }
        objects::read(&self.repo, &self.env, &ids, |at, length, content| {
            frame(sink, blobs[at], length).map_err(Stopped::Sink)?;
            let mut part = vec![0; 64 << 10];
            loop {
                match content.read(&mut part).during("cannot read from git")? {
                    0 => break,
                    n => sink.write_all(&part[..n]).map_err(Stopped::Sink)?,
                }
            }
            told(length);
            Ok(())
        })
    }
}

fn unknown(index: u32) -> CliError {
    CliError::other_version(format!("the builder asked for file {index}, which this tree has not"))
}

fn frame(sink: &mut impl Sink, index: u32, length: u64) -> io::Result<()> {
    sink.write_all(&Frame::File { index, length }.encode())
}

/// A file that has become shorter while it was sent: what is announced must follow; the receiver sees that it is wrong.
fn fill(sink: &mut impl Sink, missing: u64) -> std::result::Result<(), Stopped> {
    io::copy(&mut io::repeat(0).take(missing), sink).map(drop).map_err(Stopped::Sink)
}
