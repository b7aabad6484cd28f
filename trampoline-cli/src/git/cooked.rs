//! Files whose content in an archive is not their blob's: `git archive` itself makes it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use contract::exit::Exit;
use contract::hex;
use sha2::{Digest, Sha256};

use super::{Repo, Source, not_started};
use crate::error::{CliError, Result, While};

/// A block of a tar archive, and fields of a header.
const BLOCK: usize = 512;
const NAME: std::ops::Range<usize> = 0..100;
const SIZE: std::ops::Range<usize> = 124..136;
const TYPE: usize = 156;
const PREFIX: std::ops::Range<usize> = 345..500;
/// Most bytes of paths that are given to git; beyond them it archives all of the tree.
const WORDS: usize = 100 << 10;

/// Contents, one behind the other.
#[derive(Debug)]
pub(super) struct Cooked {
    /// Has no name.
    pub(super) file: File,
    /// By path.
    pub(super) parts: HashMap<Vec<u8>, Part>,
}

/// One content.
#[derive(Debug, Clone)]
pub(super) struct Part {
    pub(super) at: u64,
    pub(super) length: u64,
    /// See [`contract::tree`].
    pub(super) id: String,
}

impl Cooked {
    /// The `wanted` ones. All of them must be in the archive.
    pub(super) fn of(repo: &Repo, source: &Source, wanted: &HashSet<&[u8]>) -> Result<Self> {
        let mut command = repo.git(["--literal-pathspecs", "archive", "--format=tar", &source.object]);
        if wanted.iter().map(|path| path.len() + 1).sum::<usize>() < WORDS {
            command.arg("--").args(wanted.iter().map(|path| OsStr::from_bytes(path)));
        }
        let mut child = command
            .envs(source.env.iter().cloned())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_started(&error))?;
        let errors = child.stderr.take();
        // Beside the archive: a full pipe of warnings would block git.
        let words = std::thread::spawn(move || {
            let mut text = String::new();
            errors.map_or(Ok(0), |mut stderr| stderr.read_to_string(&mut text)).map(|_| text)
        });
        let file = tempfile::tempfile().during("cannot make a temporary file")?;
        let mut cooked = Self { file, parts: HashMap::new() };
        let read = match child.stdout.take() {
            Some(stdout) => cooked.read(&mut BufReader::with_capacity(256 << 10, stdout), wanted),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        let status = child.wait().during("cannot wait for git")?;
        let words = words.join().ok().and_then(io::Result::ok).unwrap_or_default();
        if !status.success() {
            return Err(CliError::new(Exit::Io, format!("git archive: {}", words.trim())));
        }
        read.during("cannot keep the archive in a temporary file")?;
        match wanted.iter().find(|path| !cooked.parts.contains_key(**path)) {
            Some(path) => Err(CliError::new(
                Exit::Internal,
                format!("`git archive` did not write {}", String::from_utf8_lossy(path)),
            )),
            None => Ok(cooked),
        }
    }

    fn read(&mut self, from: &mut impl Read, wanted: &HashSet<&[u8]>) -> io::Result<()> {
        let mut at = 0;
        let (mut long_name, mut long_size) = (None, None);
        let mut block = [0u8; BLOCK];
        loop {
            from.read_exact(&mut block)?;
            if block.iter().all(|byte| *byte == 0) {
                // Two of them, and what fills up the last record.
                return io::copy(from, &mut io::sink()).map(drop);
            }
            let size = long_size.take().map_or_else(|| octal(&block[SIZE]), Ok)?;
            let mut content = from.by_ref().take(size);
            match block[TYPE] {
                b'x' => {
                    let mut records = Vec::new();
                    content.read_to_end(&mut records)?;
                    (long_name, long_size) = pax(&records)?;
                }
                b'0' | 0 => {
                    let name = long_name.take().unwrap_or_else(|| name(&block));
                    if wanted.contains(name.as_slice()) {
                        let mut sink = Sink { file: &self.file, hash: Sha256::new() };
                        sink.hash.update(format!("blob {size}\0"));
                        if io::copy(&mut content, &mut sink)? != size {
                            return Err(io::ErrorKind::UnexpectedEof.into());
                        }
                        self.parts.insert(name, Part { at, length: size, id: hex(&sink.hash.finalize()) });
                        at += size;
                    }
                }
                // Folders, links, and the commit's id.
                _ => long_name = None,
            }
            let rest = content.limit() + (size.next_multiple_of(BLOCK as u64) - size);
            io::copy(&mut from.by_ref().take(rest), &mut io::sink())?;
        }
    }
}

/// Hashes what it writes.
struct Sink<'a> {
    file: &'a File,
    hash: Sha256,
}

impl Write for Sink<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    match text(&block[PREFIX]) {
        b"" => text(&block[NAME]).to_vec(),
        prefix => [prefix, text(&block[NAME])].join(&b'/'),
    }
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("`git archive` wrote {what}"))
}

fn octal(field: &[u8]) -> io::Result<u64> {
    let text = std::str::from_utf8(field).unwrap_or("?").trim_matches(['\0', ' ']);
    u64::from_str_radix(text, 8).map_err(|_| wrong(&format!("a header with the size {text:?}")))
}

/// `LENGTH KEY=VALUE\n`, the length counting all of itself: a path may hold newlines.
fn pax(mut bytes: &[u8]) -> io::Result<(Option<Vec<u8>>, Option<u64>)> {
    let broken = || wrong("records that cannot be read");
    let (mut path, mut size) = (None, None);
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length = std::str::from_utf8(&bytes[..space]).ok().and_then(|text| text.parse::<usize>().ok());
        let length =
            length.filter(|length| *length > space + 1 && *length <= bytes.len()).ok_or_else(broken)?;
        let record = bytes[space + 1..length].strip_suffix(b"\n").ok_or_else(broken)?;
        match record.splitn(2, |byte| *byte == b'=').collect::<Vec<_>>()[..] {
            [b"path", value] => path = Some(value.to_vec()),
            [b"size", value] => {
                size = Some(
                    std::str::from_utf8(value).ok().and_then(|text| text.parse().ok()).ok_or_else(broken)?,
                );
            }
            _ => {}
        }
        bytes = &bytes[length..];
    }
    Ok((path, size))
}
