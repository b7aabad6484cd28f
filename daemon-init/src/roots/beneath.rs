//! Looking into places where users write, from a folder that is not theirs: each part of a path is opened from its parent's
//! descriptor and must be a real folder, so that no link is ever followed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{Mode, SFlag, fstatat};

const FOLDER: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// A symbolic link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// What it says.
    pub(super) target: PathBuf,
    /// When it was made: seconds since the epoch.
    pub(super) modified: u64,
}

/// `below` must be relative.
fn open(root: &Path, below: &Path) -> io::Result<OwnedFd> {
    let mut folder = nix::fcntl::open(root, FOLDER, Mode::empty())?;
    for part in below.components() {
        let Component::Normal(name) = part else { return Err(io::ErrorKind::InvalidInput.into()) };
        folder = openat(&folder, name, FOLDER, Mode::empty())?;
    }
    Ok(folder)
}

/// The link at `root/below`; none where something else is there.
///
/// # Errors
/// `NotFound` where nothing is; others where a part of the way there is a link itself, or may not be read.
pub(super) fn link(root: &Path, below: &Path) -> io::Result<Option<Link>> {
    let (Some(parent), Some(name)) = (below.parent(), below.file_name()) else { return Ok(None) };
    link_in(&open(root, parent)?, name)
}

fn link_in(folder: impl AsFd, name: &OsStr) -> io::Result<Option<Link>> {
    let stat = fstatat(folder.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFLNK {
        return Ok(None);
    }
    let target = readlinkat(folder, name)?;
    Ok(Some(Link { target: target.into(), modified: u64::try_from(stat.st_mtime).unwrap_or(0) }))
}

/// Hands over all links in a folder and in those below it, with their own path. A folder that is not there has none, and what goes or
/// may not be read meanwhile is left out.
///
/// # Errors
/// When the folder itself cannot be read.
pub(super) fn links(root: &Path, each: &mut impl FnMut(PathBuf, Link)) -> io::Result<()> {
    match open(root, Path::new("")) {
        Ok(folder) => walk(folder, root, each),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn walk(folder: OwnedFd, path: &Path, each: &mut impl FnMut(PathBuf, Link)) -> io::Result<()> {
    let mut folder = Dir::from_fd(folder)?;
    let names: Vec<OsString> = folder
        .iter()
        .map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).to_owned()))
        .collect::<Result<_, Errno>>()?;
    for name in names.iter().filter(|name| *name != "." && *name != "..") {
        let own = path.join(name);
        match link_in(&folder, name) {
            Ok(Some(link)) => each(own, link),
            Ok(None) => {
                if let Ok(below) = openat(&folder, name.as_os_str(), FOLDER, Mode::empty()) {
                    walk(below, &own, each)?;
                }
            }
            Err(_) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_read_and_none_on_the_way_to_it_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("/nix/store/x", root.join("a/b/result")).unwrap();
        symlink("a", root.join("through")).unwrap();
        fs::write(root.join("a/file"), "").unwrap();
        let at = |path: &str| link(root, Path::new(path));
        let found = at("a/b/result").unwrap().unwrap();
        assert_eq!(found.target, Path::new("/nix/store/x"));
        assert!(found.modified > 1_000_000_000);
        assert_eq!(at("a/file").unwrap(), None);
        assert_eq!(at("a/none").unwrap_err().kind(), io::ErrorKind::NotFound);
        let followed = at("through/b/result").unwrap_err();
        assert_ne!(followed.kind(), io::ErrorKind::NotFound, "it may be there");
        assert!(at("a/../a/b/result").is_err());

        let mut all = Vec::new();
        links(root, &mut |path, _| all.push(path)).unwrap();
        all.sort();
        assert_eq!(all, [root.join("a/b/result"), root.join("through")]);
        links(&root.join("none"), &mut |_, _| panic!()).unwrap();
    }
}
