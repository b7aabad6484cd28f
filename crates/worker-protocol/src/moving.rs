//! Store paths on their way from one store to another: what is there, its archive, and adding many in one stream.

use std::io::{self, Read, Write};

use crate::connection::Connection;
use crate::error::{Error, Result};
use crate::nar;
use crate::stderr::Message;
use crate::valid_path::ValidPath;
use crate::wire::{self, Request};

// Operations, by the protocol's numbers.
const QUERY_PATH_INFO: u64 = 26;
const QUERY_VALID_PATHS: u64 = 31;
const NAR_FROM_PATH: u64 = 38;
const ADD_MULTIPLE_TO_STORE: u64 = 44;
/// The first that has it: Nix 2.4.
const ADD_MULTIPLE_MINOR: u64 = 32;
/// Bytes of one frame of a stream.
const FRAME: usize = 64 << 10;

impl<S: Read + Write> Connection<S> {
    /// All that the store says of a path; `None`: not valid.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn valid_path(&mut self, path: &str) -> Result<Option<ValidPath>> {
        self.ask(&Request::new(QUERY_PATH_INFO).str(path), &mut |_| {}, |from| {
            let valid = wire::read_bool(from, "whether a path is valid")?;
            valid.then(|| ValidPath::read(from, path)).transpose()
        })
    }

    /// Those of `paths` that are valid. Nothing is fetched from elsewhere.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn valid_of<'a>(&mut self, paths: impl ExactSizeIterator<Item = &'a str>) -> Result<Vec<String>> {
        let request = Request::new(QUERY_VALID_PATHS).strs(paths);
        let request = if self.hello().minor >= 27 { request.u64(0) } else { request };
        self.ask(&request, &mut |_| {}, |from| wire::read_all(from, "a store path"))
    }

    /// Copies the archive of a valid path; returns its length.
    ///
    /// # Errors
    /// See [`Error`]; also where `to` takes no more.
    pub fn nar_from_path(&mut self, path: &str, to: &mut impl Write) -> Result<u64> {
        self.ask(&Request::new(NAR_FROM_PATH).str(path), &mut |_| {}, |from| nar::copy(from, to))
    }

    /// Announces that paths follow, as [`Frames`] by another handle of the same stream. Meanwhile somebody has to listen:
    /// [`Self::added`].
    ///
    /// # Errors
    /// See [`Error`].
    pub fn begin_adding(&mut self) -> Result<()> {
        if self.hello().minor < ADD_MULTIPLE_MINOR {
            return Err(Error::Version { major: 1, minor: self.hello().minor });
        }
        // Neither repairing, nor without a look at signatures, which only trusted users could ask for.
        self.tell(&Request::new(ADD_MULTIPLE_TO_STORE).u64(0).u64(0))
    }

    /// Listens until all is added. The daemon says no only when it has read everything.
    ///
    /// # Errors
    /// See [`Error`]; paths before the refused one may have been added.
    pub fn added(&mut self, log: &mut dyn FnMut(Message)) -> Result<()> {
        self.hear(log, |_| Ok(()))
    }
}

/// Paths in the order in which they are added: each behind all that it refers to.
#[derive(Debug)]
pub struct Frames<W: Write> {
    to: W,
    buffer: Vec<u8>,
}

impl<W: Write> Frames<W> {
    /// So many paths will follow.
    ///
    /// # Errors
    /// Of the stream.
    pub fn new(to: W, paths: u64) -> io::Result<Self> {
        let mut frames = Self { to, buffer: Vec::with_capacity(FRAME) };
        frames.write_all(&paths.to_le_bytes())?;
        Ok(frames)
    }

    /// What is said of a path; its archive is written next.
    ///
    /// # Errors
    /// Of the stream.
    pub fn path(&mut self, path: &ValidPath) -> io::Result<()> {
        self.write_all(path.written().bytes())
    }

    /// Ends the stream. Needed also where not all has been written, before the daemon can say why it takes no more.
    ///
    /// # Errors
    /// Of the stream.
    pub fn finish(mut self) -> io::Result<()> {
        self.frame()?;
        self.to.write_all(&0_u64.to_le_bytes())?;
        self.to.flush()
    }

    fn frame(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.to.write_all(&(self.buffer.len() as u64).to_le_bytes())?;
            self.to.write_all(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }
}

impl<W: Write> Write for Frames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.buffer.len() == FRAME {
            self.frame()?;
        }
        let some = bytes.len().min(FRAME - self.buffer.len());
        self.buffer.extend_from_slice(&bytes[..some]);
        Ok(some)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.frame()?;
        self.to.flush()
    }
}
