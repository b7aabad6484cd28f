//! Writing below one folder, whatever the names say: each part of a name is opened from its parent's descriptor and must be a
//! real folder. No path is ever resolved by the kernel, so that no link is ever followed.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, UtimensatFlags, futimens, mkdirat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use super::{Refused, joined};

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);
const FILE: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// Content goes from the channel to the file in pieces of this size.
const PIECE: usize = 128 << 10;

/// The tree as it grows.
pub(super) struct Tree {
    root: OwnedFd,
    /// Open folders from the root down to the one that was used last: entries come folder by folder.
    open: Vec<(OsString, OwnedFd)>,
    /// Folders and their times, which are set last: each entry in a folder changes them.
    times: Vec<(Vec<OsString>, Option<i64>)>,
    piece: Vec<u8>,
}

fn failed(what: &'static str, name: &OsStr) -> impl FnOnce(Errno) -> Refused {
    move |e| Refused::Io { what, name: name.to_owned(), source: e.into() }
}

fn time(seconds: i64) -> TimeSpec {
    TimeSpec::new(seconds, 0)
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, Refused> {
        let root = open(root, FOLDER, Mode::empty()).map_err(failed("open", root.as_os_str()))?;
        Ok(Self { root, open: Vec::new(), times: Vec::new(), piece: vec![0; PIECE] })
    }

    /// The descriptor of a folder, made where it is missing (`times` then knows of it) if `make`.
    fn enter(&mut self, name: &OsStr, parts: &[OsString], make: bool) -> Result<BorrowedFd<'_>, Refused> {
        let common = self.open.iter().zip(parts).take_while(|((open, _), part)| open == *part).count();
        self.open.truncate(common);
        for depth in common..parts.len() {
            let parent = self.open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd());
            let part = &parts[depth];
            let fd = match openat(parent, part.as_os_str(), FOLDER, Mode::empty()) {
                Err(Errno::ENOENT) if make => {
                    mkdirat(parent, part.as_os_str(), Mode::from_bits_truncate(0o755))
                        .map_err(failed("make the folder of", name))?;
                    self.times.push((parts[..=depth].to_vec(), None));
                    openat(parent, part.as_os_str(), FOLDER, Mode::empty())
                }
                other => other,
            };
            let fd = match fd {
                Ok(fd) => fd,
                // A link (ELOOP or, with O_DIRECTORY, ENOTDIR) or a file.
                Err(Errno::ELOOP | Errno::ENOTDIR) => {
                    return Err(Refused::Through { name: name.to_owned(), at: joined(&parts[..=depth]) });
                }
                Err(Errno::ENAMETOOLONG) => return Err(Refused::Name(name.to_owned())),
                Err(e) => return Err(failed("open the folder of", name)(e)),
            };
            self.open.push((part.clone(), fd));
        }
        Ok(self.open.last().map_or(self.root.as_fd(), |(_, fd)| fd.as_fd()))
    }

    pub(super) fn folder(&mut self, name: &OsStr, path: &[OsString], mtime: i64) -> Result<(), Refused> {
        match self.enter(name, path, true) {
            Ok(_) => {}
            Err(Refused::Through { at, .. }) if at == joined(path) => {
                return Err(Refused::Replaces(name.to_owned()));
            }
            Err(e) => return Err(e),
        }
        self.times.push((path.to_vec(), Some(mtime)));
        Ok(())
    }

    pub(super) fn file(
        &mut self,
        name: &OsStr,
        folders: &[OsString],
        last: &OsStr,
        executable: bool,
        mtime: i64,
        content: &mut impl Read,
    ) -> Result<(), Refused> {
        let mut piece = std::mem::take(&mut self.piece);
        let parent = self.enter(name, folders, true)?;
        let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
        let fd = replacing(name, parent, last, || openat(parent, last, FILE, mode))?;
        let mut file = File::from(fd);
        let io_failed = |source: io::Error| Refused::Io { what: "write", name: name.to_owned(), source };
        loop {
            let n = content.read(&mut piece).map_err(|e| Refused::Malformed(e.to_string()))?;
            if n == 0 {
                break;
            }
            file.write_all(&piece[..n]).map_err(io_failed)?;
        }
        futimens(&file, &time(mtime), &time(mtime)).map_err(failed("set the time of", name))?;
        self.piece = piece;
        Ok(())
    }

    pub(super) fn link(
        &mut self,
        name: &OsStr,
        folders: &[OsString],
        last: &OsStr,
        target: &OsStr,
        mtime: i64,
    ) -> Result<(), Refused> {
        let parent = self.enter(name, folders, true)?;
        replacing(name, parent, last, || symlinkat(target, parent, last))?;
        utimensat(parent, last, &time(mtime), &time(mtime), UtimensatFlags::NoFollowSymlink)
            .map_err(failed("set the time of", name))
    }

    pub(super) fn hard_link(
        &mut self,
        name: &OsStr,
        folders: &[OsString],
        last: &OsStr,
        target: &OsStr,
        target_path: &[OsString],
    ) -> Result<(), Refused> {
        let missing = || Refused::HardLink { name: name.to_owned(), target: target.to_owned() };
        let (target_last, target_folders) = target_path.split_last().ok_or_else(missing)?;
        let from = self.enter(name, target_folders, false).map_err(|_| missing())?;
        let from = from.try_clone_to_owned().map_err(|source| Refused::Io {
            what: "open the folder of",
            name: target.to_owned(),
            source,
        })?;
        let to = self.enter(name, folders, true)?;
        // Without AT_SYMLINK_FOLLOW: a link to a link is the link itself, wherever it leads.
        let made =
            replacing(name, to, last, || linkat(&from, target_last.as_os_str(), to, last, AtFlags::empty()));
        match made {
            Err(Refused::Io { source, .. })
                if matches!(
                    source.raw_os_error().map(Errno::from_raw),
                    Some(Errno::ENOENT | Errno::EPERM)
                ) =>
            {
                Err(missing())
            }
            other => other,
        }
    }

    /// Sets the folders' times, the deepest first, and the root's.
    pub(super) fn finish(mut self, latest: i64) -> Result<(), Refused> {
        // A folder that is made on the way and named later stands twice: the later entry is the archive's own word.
        for (path, mtime) in std::mem::take(&mut self.times) {
            let name = joined(&path);
            let fd = self.enter(&name, &path, false)?;
            let mtime = time(mtime.unwrap_or(latest));
            futimens(fd, &mtime, &mtime).map_err(failed("set the time of", &name))?;
        }
        futimens(&self.root, &time(latest), &time(latest)).map_err(failed("set the time of", OsStr::new(".")))
    }
}

/// Makes something; what another entry put there before is removed first (the later entry counts, as with tar), and never
/// written into: it may be a hard link to something else. A folder stays.
fn replacing<T>(
    name: &OsStr,
    parent: BorrowedFd<'_>,
    last: &OsStr,
    make: impl Fn() -> nix::Result<T>,
) -> Result<T, Refused> {
    match make() {
        Err(Errno::EEXIST) => match unlinkat(parent, last, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => make().map_err(failed("make", name)),
            Err(Errno::EISDIR | Errno::EPERM) => Err(Refused::Replaces(name.to_owned())),
            Err(e) => Err(failed("replace", name)(e)),
        },
        Err(Errno::ENAMETOOLONG) => Err(Refused::Name(name.to_owned())),
        other => other.map_err(failed("make", name)),
    }
}
