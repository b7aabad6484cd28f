//! One conversation with a daemon, question after question.

use std::io::{BufReader, Read, Write};

use crate::error::{Error, Result};
use crate::hello::{Hello, handshake};
use crate::stderr::{self, Message};
use crate::wire::{self, Request};

// Operations, by the protocol's numbers.
const ADD_TEMP_ROOT: u64 = 11;
const SET_OPTIONS: u64 = 19;
const COLLECT_GARBAGE: u64 = 20;
const QUERY_ALL_VALID_PATHS: u64 = 23;
const QUERY_PATH_INFO: u64 = 26;
const OPTIMISE_STORE: u64 = 34;

/// What a collection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GcAction {
    /// Tell which paths are alive.
    ReturnLive,
    /// Tell which paths could be deleted.
    ReturnDead,
    /// Delete dead paths until this many bytes are free again; `None`: all of them.
    DeleteDead {
        /// Bytes.
        max_freed: Option<u64>,
    },
    /// Delete these and nothing else, if they are dead.
    DeleteSpecific(Vec<String>),
}

/// What a collection did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GcOutcome {
    /// Paths told or deleted.
    pub paths: u64,
    /// Freed, as Nix counts: files whose last link went.
    pub bytes_freed: u64,
}

/// What the store knows of a path, as far as it is used here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    /// Size of its serialisation in bytes: about what it takes on disk, before any linking of identical files.
    pub nar_size: u64,
    /// Seconds since the epoch.
    pub registered: u64,
    /// Number of paths that it refers to.
    pub references: u64,
}

/// A daemon that has been greeted. Dropped, it closes the stream, and the daemon's process for it ends.
#[derive(Debug)]
pub struct Connection<S> {
    stream: BufReader<S>,
    hello: Hello,
    /// After an error other than the daemon's own refusal nobody knows where in the conversation we are.
    broken: bool,
}

impl<S: Read + Write> Connection<S> {
    /// Greets the daemon at the other end.
    ///
    /// # Errors
    /// As [`handshake`].
    pub fn open(mut stream: S) -> Result<Self> {
        let hello = handshake(&mut stream)?;
        Ok(Self { stream: BufReader::new(stream), hello, broken: false })
    }

    /// What it said of itself.
    #[must_use]
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// How much the daemon tells while it works, by Nix's levels: 0 errors, 1 warnings, 3 info (a line for each deleted path).
    /// Everything else is as the daemon's own configuration says, as far as the protocol lets a client leave it there.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn set_verbosity(&mut self, level: u64) -> Result<()> {
        let request = Request::new(SET_OPTIONS)
            .u64(0) // keep failed builds
            .u64(0) // keep going
            .u64(0) // fall back to building
            .u64(level)
            .u64(1) // jobs: this conversation builds nothing
            .u64(0) // silence is allowed for ever
            .u64(1) // long without meaning, as the next three
            .u64(0)
            .u64(0)
            .u64(0)
            .u64(1) // cores
            .u64(1) // substitutes
            .u64(0); // nothing else is set
        self.ask(&request, &mut |_| {}, |_| Ok(()))
    }

    /// Hands over all valid paths, one by one. The daemon writes as we read: what `each` does meanwhile holds no lock.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn all_valid_paths(&mut self, mut each: impl FnMut(&str) -> Result<()>) -> Result<u64> {
        self.ask(&Request::new(QUERY_ALL_VALID_PATHS), &mut |_| {}, |from| {
            wire::read_each(from, "a store path", &mut each)
        })
    }

    /// `None`: not valid (any more).
    ///
    /// # Errors
    /// See [`Error`].
    pub fn path_info(&mut self, path: &str) -> Result<Option<PathInfo>> {
        self.ask(&Request::new(QUERY_PATH_INFO).str(path), &mut |_| {}, |from| {
            if !wire::read_bool(from, "whether a path is valid")? {
                return Ok(None);
            }
            let mut buffer = Vec::new();
            wire::read_str(from, "a deriver", &mut buffer)?;
            wire::read_str(from, "a hash", &mut buffer)?;
            let references = wire::read_each(from, "a reference", |_| Ok(()))?;
            let registered = wire::read_u64(from)?;
            let nar_size = wire::read_u64(from)?;
            wire::read_bool(from, "whether it was built here")?;
            wire::read_each(from, "a signature", |_| Ok(()))?;
            wire::read_str(from, "a content address", &mut buffer)?;
            Ok(Some(PathInfo { nar_size, registered, references }))
        })
    }

    /// Keeps `path`, whether valid yet or not, from every collection for as long as this conversation lasts.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn add_temp_root(&mut self, path: &str) -> Result<()> {
        self.ask(&Request::new(ADD_TEMP_ROOT).str(path), &mut |_| {}, done)
    }

    /// Collects garbage. `each` sees every path that was deleted (or found, where nothing was to be deleted), after the fact;
    /// `log` sees the daemon's messages as it works.
    ///
    /// # Errors
    /// See [`Error`]; what was deleted until then stays deleted.
    pub fn collect_garbage(
        &mut self,
        action: &GcAction,
        log: &mut dyn FnMut(Message),
        mut each: impl FnMut(&str),
    ) -> Result<GcOutcome> {
        let (number, max_freed, paths): (u64, _, &[String]) = match action {
            GcAction::ReturnLive => (0, None, &[]),
            GcAction::ReturnDead => (1, None, &[]),
            GcAction::DeleteDead { max_freed } => (2, *max_freed, &[]),
            GcAction::DeleteSpecific(paths) => (3, None, paths),
        };
        let request = Request::new(COLLECT_GARBAGE)
            .u64(number)
            .strs(paths.iter().map(String::as_str))
            .u64(0) // never what is alive: only trusted clients could ask for that, and nobody should
            .u64(max_freed.unwrap_or(u64::MAX))
            .u64(0) // long without meaning, as the next two
            .u64(0)
            .u64(0);
        self.ask(&request, log, |from| {
            let paths = wire::read_each(from, "a store path", |path| {
                each(path);
                Ok(())
            })?;
            let bytes_freed = wire::read_u64(from)?;
            // Without meaning.
            wire::read_u64(from)?;
            Ok(GcOutcome { paths, bytes_freed })
        })
    }

    /// Links identical files of the store to each other.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn optimise(&mut self, log: &mut dyn FnMut(Message)) -> Result<()> {
        self.ask(&Request::new(OPTIMISE_STORE), log, done)
    }

    /// One question, what the daemon says meanwhile, and the answer.
    pub(crate) fn ask<T>(
        &mut self,
        request: &Request,
        log: &mut dyn FnMut(Message),
        answer: impl FnOnce(&mut BufReader<S>) -> Result<T>,
    ) -> Result<T> {
        self.tell(request)?;
        self.hear(log, answer)
    }

    /// The first half of [`Self::ask`].
    pub(crate) fn tell(&mut self, request: &Request) -> Result<()> {
        if self.broken {
            return Err(std::io::Error::from(std::io::ErrorKind::NotConnected).into());
        }
        let stream = self.stream.get_mut();
        let told = stream.write_all(request.bytes()).and_then(|()| stream.flush());
        self.broken = told.is_err();
        Ok(told?)
    }

    /// The second half.
    pub(crate) fn hear<T>(
        &mut self,
        log: &mut dyn FnMut(Message),
        answer: impl FnOnce(&mut BufReader<S>) -> Result<T>,
    ) -> Result<T> {
        let said = stderr::until_last(&mut self.stream, self.hello.minor, log);
        let result = said.and_then(|()| answer(&mut self.stream));
        self.broken = !matches!(result, Ok(_) | Err(Error::Daemon(_)));
        result
    }
}

/// The answer of operations that have none.
pub(crate) fn done(from: &mut impl Read) -> Result<()> {
    match wire::read_u64(from)? {
        1 => Ok(()),
        value => Err(Error::Unexpected { what: "done", value }),
    }
}
