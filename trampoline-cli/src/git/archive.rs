//! A tree as an archive, with its length and hash.

use std::fs::{File, Permissions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use contract::exit::Exit;
use sha2::{Digest, Sha256};

use super::{Repo, Source, normal, not_started};
use crate::error::{CliError, Result, While};
use crate::render::hex;

/// Ready to be sent.
pub(crate) struct Archive {
    /// At its beginning; has no name.
    pub(crate) file: File,
    /// Its length.
    pub(crate) bytes: u64,
    /// Its sha256.
    pub(crate) sha256: String,
}

/// A file without a name, for [`make`]. Others may read it: the builder's user opens it again where it is handed over.
pub(crate) fn scratch() -> Result<File> {
    let file = tempfile::tempfile().during("cannot make a temporary file")?;
    file.set_permissions(Permissions::from_mode(0o444))
        .during("cannot change the mode of a temporary file")?;
    Ok(file)
}

/// What `git archive` writes of it, normalised. Blocks.
pub(crate) fn make(repo: &Repo, source: &Source, file: File) -> Result<Archive> {
    // The user's umask for archives is about archives that they make.
    let mut child = repo
        .git(["-c", "tar.umask=0022", "archive", "--format=tar", &source.object])
        .envs(source.env.iter().cloned())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_started(&error))?;
    let mut errors = child.stderr.take();
    // Beside the archive: a full pipe of warnings would block git.
    let words = std::thread::spawn(move || {
        let mut text = String::new();
        let read = errors.as_mut().map_or(Ok(0), |stderr| stderr.read_to_string(&mut text));
        read.map(|_| text)
    });
    let mut sink = Sink { file, hash: Sha256::new(), bytes: 0 };
    let copied = match child.stdout.take() {
        Some(stdout) => {
            // Fewer turns between git and us; a smaller pipe works as well.
            #[cfg(target_os = "linux")]
            let _ = rustix::pipe::fcntl_setpipe_size(&stdout, 1 << 20);
            normal::copy(&mut BufReader::with_capacity(256 << 10, stdout), &mut sink)
        }
        None => Err(io::ErrorKind::BrokenPipe.into()),
    };
    let status = child.wait().during("cannot wait for git")?;
    let words = words.join().ok().and_then(io::Result::ok).unwrap_or_default();
    if !status.success() {
        return Err(CliError::new(Exit::Io, format!("git archive: {}", words.trim())));
    }
    copied.during("cannot keep the archive in a temporary file")?;
    sink.finish()
}

/// Counts and hashes what is written.
struct Sink {
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Write for Sink {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.file.write(buffer)?;
        self.hash.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Sink {
    fn finish(mut self) -> Result<Archive> {
        self.file.seek(SeekFrom::Start(0)).during("cannot read the archive again")?;
        Ok(Archive { file: self.file, bytes: self.bytes, sha256: hex(&self.hash.finalize()) })
    }
}
