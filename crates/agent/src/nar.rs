//! The archive (NAR) of what lies in the store, hashed: what a store path is registered by.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::libc::{O_CLOEXEC, O_NOFOLLOW, O_NONBLOCK};
use sha2::{Digest, Sha256};

/// Larger ones read no faster.
const BUFFER: usize = 128 << 10;

/// What an archive comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    /// SHA-256, in hexadecimal.
    pub hash: String,
    /// Its length in bytes.
    pub size: u64,
}

/// What happens to the kernel's cache of the files that were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// They are likely to be used next.
    Keep,
    /// They were read for this alone.
    Drop,
}

/// Hashes the archive of the tree, file or link at `path`, following no link. `go_on` is told of each piece that was read (bytes),
/// at least once a file, and ends it by an error.
///
/// # Errors
/// The kernel's, and that of `go_on`. [`is_damage`] tells whether the store is to blame.
pub fn hash(path: &Path, cache: Cache, go_on: &mut dyn FnMut(u64) -> io::Result<()>) -> io::Result<Archive> {
    let mut archive = Writer { sha: Sha256::new(), size: 0, buffer: vec![0; BUFFER], cache, go_on };
    archive.word(b"nix-archive-1");
    archive.node(path)?;
    Ok(Archive { hash: contract::hex(&archive.sha.finalize()), size: archive.size })
}

/// Whether an error of [`hash`] says that the tree is not what it was: parts of it are missing, or the disk does not give them back.
#[must_use]
pub fn is_damage(error: &io::Error) -> bool {
    let kind = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::InvalidData
            | io::ErrorKind::UnexpectedEof
    );
    let code = error.raw_os_error().map(Errno::from_raw);
    // The last two are what ext4 and xfs say of structures that fail their checksums.
    kind || matches!(code, Some(Errno::EIO | Errno::EUCLEAN | Errno::EBADMSG))
}

struct Writer<'a> {
    sha: Sha256,
    size: u64,
    buffer: Vec<u8>,
    cache: Cache,
    go_on: &'a mut dyn FnMut(u64) -> io::Result<()>,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.sha.update(bytes);
        self.size += bytes.len() as u64;
    }

    fn padding(&mut self, length: u64) {
        let missing = length.next_multiple_of(8) - length;
        self.bytes(&[0; 8][..usize::try_from(missing).unwrap_or_default()]);
    }

    fn word(&mut self, word: &[u8]) {
        self.bytes(&(word.len() as u64).to_le_bytes());
        self.bytes(word);
        self.padding(word.len() as u64);
    }

    fn words(&mut self, words: &[&str]) {
        words.iter().for_each(|word| self.word(word.as_bytes()));
    }

    fn node(&mut self, path: &Path) -> io::Result<()> {
        let kind = fs::symlink_metadata(path)?.file_type();
        self.words(&["(", "type"]);
        if kind.is_dir() {
            self.words(&["directory"]);
            let names = fs::read_dir(path)?.map(|entry| Ok(entry?.file_name().into_vec()));
            let mut names = names.collect::<io::Result<Vec<_>>>()?;
            names.sort_unstable();
            for name in names {
                self.words(&["entry", "(", "name"]);
                self.word(&name);
                self.words(&["node"]);
                self.node(&path.join(OsString::from_vec(name)))?;
                self.words(&[")"]);
            }
        } else if kind.is_symlink() {
            self.words(&["symlink", "target"]);
            self.word(fs::read_link(path)?.as_os_str().as_bytes());
        } else if kind.is_file() {
            self.file(path)?;
        } else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "neither a file, a folder nor a link"));
        }
        self.words(&[")"]);
        Ok(())
    }

    fn file(&mut self, path: &Path) -> io::Result<()> {
        let flags = O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let stat = file.metadata()?;
        self.words(&["regular"]);
        if stat.mode() & 0o100 != 0 {
            self.words(&["executable", ""]);
        }
        self.words(&["contents"]);
        self.bytes(&stat.size().to_le_bytes());
        let mut buffer = std::mem::take(&mut self.buffer);
        let read = self.contents(&mut file, stat.size(), &mut buffer);
        self.buffer = buffer;
        if self.cache == Cache::Drop {
            // Only a hint, which may be refused.
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
        read?;
        self.padding(stat.size());
        Ok(())
    }

    fn contents(&mut self, file: &mut File, size: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let want = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let got = file.read(&mut buffer[..want])?;
            if got == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            self.bytes(&buffer[..got]);
            left -= got as u64;
            (self.go_on)(got as u64)?;
        }
        if size == 0 { (self.go_on)(0) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::process::Command;

    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/empty")).unwrap();
        // In the order of bytes a dot comes before a slash, and both before letters.
        for (name, length) in [("a.b", 7), ("a/b", 8), ("B", 0), ("large", 3 * BUFFER + 5), ("é", 1)] {
            fs::write(root.join(name), vec![b'x'; length]).unwrap();
        }
        fs::set_permissions(root.join("B"), fs::Permissions::from_mode(0o555)).unwrap();
        symlink("nowhere/at/all", root.join("link")).unwrap();
        dir
    }

    fn plainly(path: &Path) -> io::Result<Archive> {
        hash(path, Cache::Drop, &mut |_| Ok(()))
    }

    #[test]
    fn it_is_what_nix_makes_of_it() {
        let dir = tree();
        for path in [dir.path().to_owned(), dir.path().join("B"), dir.path().join("link")] {
            let dump = Command::new("nix-store").arg("--dump").arg(&path).output();
            let dump = dump.expect("nix-store is needed: apt-get install nix-bin");
            assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
            let expected = contract::hex(&Sha256::digest(&dump.stdout));
            assert_eq!(plainly(&path).unwrap(), Archive { hash: expected, size: dump.stdout.len() as u64 });
        }
    }

    #[test]
    fn what_is_read_is_told_and_can_be_ended() {
        let dir = tree();
        let mut read = 0;
        hash(dir.path(), Cache::Keep, &mut |bytes| {
            read += bytes;
            Ok(())
        })
        .unwrap();
        assert_eq!(read, 7 + 8 + 3 * BUFFER as u64 + 5 + 1);
        let ended = hash(dir.path(), Cache::Keep, &mut |_| Err(io::ErrorKind::Interrupted.into()));
        let ended = ended.unwrap_err();
        assert!(ended.kind() == io::ErrorKind::Interrupted && !is_damage(&ended));
    }

    #[test]
    fn what_is_gone_or_strange_is_damage() {
        let dir = tree();
        assert!(is_damage(&plainly(&dir.path().join("none")).unwrap_err()));
        nix::unistd::mkfifo(&dir.path().join("pipe"), nix::sys::stat::Mode::from_bits_truncate(0o644))
            .unwrap();
        assert!(is_damage(&plainly(dir.path()).unwrap_err()));
        assert!(is_damage(&Errno::EUCLEAN.into()) && !is_damage(&Errno::EMFILE.into()));
    }
}
