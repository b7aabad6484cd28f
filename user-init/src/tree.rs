//! Writing and reading below one folder, whatever the names say: each part of a path is opened from its parent's descriptor
//! and must be a real folder. No path is ever resolved by the kernel, so that no link is ever followed.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use contract::tree::MTIME;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, UtimensatFlags, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use crate::error::{Error, Result, errno};

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Readable as well: what was copied is read again to be hashed.
const NEW: OFlag =
    OFlag::O_RDWR.union(OFlag::O_CREAT).union(OFlag::O_EXCL).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
/// Non-blocking: where a file was there may be a pipe by now.
const OLD: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A tree, as one thread sees it. Paths are those of a manifest that was checked.
#[derive(Debug)]
pub(crate) struct Tree {
    path: PathBuf,
    root: OwnedFd,
    /// Open folders from the root down to the one that was used last: entries come folder by folder.
    open: Vec<(Vec<u8>, OwnedFd)>,
}

fn time() -> TimeSpec {
    TimeSpec::new(MTIME, 0)
}

/// Gives a file or folder the time that all have.
pub(crate) fn set_time(fd: impl AsFd, path: &Path) -> Result<()> {
    futimens(fd, &time(), &time()).map_err(errno("set the time of", path))
}

impl Tree {
    pub(crate) fn open(root: &Path) -> Result<Self> {
        let fd = open(root, FOLDER, Mode::empty()).map_err(errno("open", root))?;
        Ok(Self { path: root.to_owned(), root: fd, open: Vec::new() })
    }

    /// For messages.
    pub(crate) fn full(&self, path: &[u8]) -> PathBuf {
        self.path.join(OsStr::from_bytes(path))
    }

    fn failed(&self, what: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Error {
        let path = self.full(path);
        move |e| errno(what, &path)(e)
    }

    /// The descriptor of a folder; made where it is missing if `make`.
    fn enter(&mut self, folder: &[u8], make: bool) -> Result<BorrowedFd<'_>> {
        let parts: Vec<&[u8]> = folder.split(|b| *b == b'/').filter(|part| !part.is_empty()).collect();
        let common = self.open.iter().zip(&parts).take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(common);
        for part in &parts[common..] {
            let parent = self.open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let name = OsStr::from_bytes(part);
            let fd = match openat(parent, name, FOLDER, Mode::empty()) {
                Err(Errno::ENOENT) if make => {
                    mkdirat(parent, name, Mode::from_bits_truncate(0o755))
                        .map_err(self.failed("make", folder))?;
                    openat(parent, name, FOLDER, Mode::empty())
                }
                other => other,
            };
            let fd = fd.map_err(self.failed("open", folder))?;
            self.open.push((part.to_vec(), fd));
        }
        Ok(self.open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    fn parent<'p>(&mut self, path: &'p [u8]) -> Result<(BorrowedFd<'_>, &'p OsStr)> {
        let slash = path.iter().rposition(|b| *b == b'/');
        let (folder, name) = slash.map_or((&path[..0], path), |at| (&path[..at], &path[at + 1..]));
        Ok((self.enter(folder, false)?, OsStr::from_bytes(name)))
    }

    /// Makes a folder and those that hold it.
    pub(crate) fn folder(&mut self, path: &[u8]) -> Result<()> {
        self.enter(path, true).map(drop)
    }

    /// A file that is not there yet, in a folder that is.
    pub(crate) fn create(&mut self, path: &[u8], executable: bool) -> Result<File> {
        let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
        let (parent, name) = self.parent(path)?;
        let fd = openat(parent, name, NEW, mode);
        Ok(File::from(fd.map_err(self.failed("make", path))?))
    }

    /// What [`Self::create`] made and was not filled.
    pub(crate) fn remove(&mut self, path: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let removed = unlinkat(parent, name, UnlinkatFlags::NoRemoveDir);
        removed.map_err(self.failed("remove", path))
    }

    /// A file, if it is one.
    pub(crate) fn read(&mut self, path: &[u8]) -> Option<File> {
        let (parent, name) = self.parent(path).ok()?;
        let file = File::from(openat(parent, name, OLD, Mode::empty()).ok()?);
        file.metadata().is_ok_and(|meta| meta.is_file()).then_some(file)
    }

    pub(crate) fn link(&mut self, path: &[u8], target: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(path)?;
        let made = symlinkat(OsStr::from_bytes(target), parent, name)
            .and_then(|()| utimensat(parent, name, &time(), &time(), UtimensatFlags::NoFollowSymlink));
        made.map_err(self.failed("make", path))
    }

    /// When nothing is made in it any more: each entry changes its folder's time.
    pub(crate) fn set_folder_time(&mut self, path: &[u8]) -> Result<()> {
        let full = self.full(path);
        set_time(self.enter(path, false)?, &full)
    }
}
