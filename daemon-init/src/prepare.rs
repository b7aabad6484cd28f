//! Before anything else starts: the run volume's folders and the mount points. On Kubernetes a root init container; on podman
//! the first step of `serve`, because a tmpfs volume is emptied when an init container ends.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use agent::paths::Paths;
use contract::exit::Exit;
use contract::places::{Container, USER_GID, USER_UID};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

/// A step of the preparation failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, not a folder, or a link.
    #[error("{} is not a folder that can be opened: is the volume mounted?", path.display())]
    Open {
        /// The mount point.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else was first.
    #[error("{} belongs to uid {uid}, not to root: make the run volume with uid=0,mode=0755", path.display())]
    Owner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        uid: u32,
    },
    /// Making a folder or setting its owner or mode failed.
    #[error("prepare {}", path.display())]
    Change {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Open { .. } | Self::Change { .. } => Exit::Io,
            Self::Owner { .. } => Exit::NoPermission,
        }
    }
}

/// All of it; harmless to repeat. The store volume is left to [`crate::volume`], which first looks whose it is.
///
/// # Errors
/// See [`Error`]; nothing below a mount point is ever changed.
pub fn prepare(paths: &Paths) -> Result<(), Error> {
    run_volume(&paths.run)?;
    mount_point(&paths.home, USER_UID, USER_GID)?;
    // A pod that was made without it has none.
    match mount_point(&paths.build, 0, 0) {
        Err(Error::Open { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// As much of it as root can do that has no power over others' files: from then on nobody but root makes a folder on the run volume,
/// and root's own is there. [`prepare`] does the rest when the daemon container starts.
///
/// # Errors
/// See [`Error`].
pub fn ahead(paths: &Paths) -> Result<(), Error> {
    let dir = take_run_volume(&paths.run)?;
    writer_folder(&paths.run, &dir, Container::Daemon)
}

/// All of it, or as much as this container may do.
///
/// # Errors
/// See [`Error`].
pub fn before_others(paths: &Paths) -> Result<(), Error> {
    match prepare(paths) {
        Err(Error::Change { source, .. }) if source.kind() == io::ErrorKind::PermissionDenied => ahead(paths),
        done => done,
    }
}

/// One folder per writer. A memory emptyDir starts as 0777, a tmpfs volume as we asked for it; either way it must be root's, or
/// whoever owns it could replace what root publishes.
fn run_volume(run: &Path) -> Result<(), Error> {
    let dir = take_run_volume(run)?;
    for container in Container::ALL {
        writer_folder(run, &dir, container)?;
    }
    Ok(())
}

fn take_run_volume(run: &Path) -> Result<OwnedFd, Error> {
    let dir = open_dir(run)?;
    let owner = fstat(&dir).map_err(|e| change(run, e))?.st_uid;
    if owner != me() {
        return Err(Error::Owner { path: run.to_owned(), uid: owner });
    }
    fchmod(&dir, mode(0o755)).map_err(|e| change(run, e))?;
    Ok(dir)
}

/// Made under another name and renamed: whoever waits for its folder finds it complete.
fn writer_folder(run: &Path, dir: &OwnedFd, container: Container) -> Result<(), Error> {
    let path = run.join(container.name());
    let existing = nix::sys::stat::fstatat(dir, container.name(), AtFlags::AT_SYMLINK_NOFOLLOW);
    match existing {
        Ok(stat) => {
            let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
            return if kind == SFlag::S_IFDIR && stat.st_uid == owner_of(container) {
                Ok(())
            } else {
                Err(Error::Owner { path, uid: stat.st_uid })
            };
        }
        Err(Errno::ENOENT) => {}
        Err(e) => return Err(change(&path, e)),
    }
    let temporary = format!(".{}.new", container.name());
    match unlinkat(dir, temporary.as_str(), UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => {}
        Err(e) => return Err(change(&path, e)),
    }
    mkdirat(dir, temporary.as_str(), mode(0o755)).map_err(|e| change(&path, e))?;
    let folder = openat(dir, temporary.as_str(), FLAGS, Mode::empty()).map_err(|e| change(&path, e))?;
    let uid = owner_of(container);
    fchown(&folder, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid))).map_err(|e| change(&path, e))?;
    fchmod(&folder, mode(0o755)).map_err(|e| change(&path, e))?;
    renameat(dir, temporary.as_str(), dir, container.name()).map_err(|e| change(&path, e))
}

/// Owner and mode of that one inode: a fresh claim is root 0755 (the user could not write its home), a hostPath may be 0777
/// (sshd's `StrictModes` refuses it, and so does Nix for its store).
fn mount_point(path: &Path, uid: u32, gid: u32) -> Result<(), Error> {
    let dir = open_dir(path)?;
    let stat = fstat(&dir).map_err(|e| change(path, e))?;
    if me() == 0 && (stat.st_uid, stat.st_gid) != (uid, gid) {
        fchown(&dir, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|e| change(path, e))?;
    }
    if stat.st_mode & 0o7777 != 0o755 {
        fchmod(&dir, mode(0o755)).map_err(|e| change(path, e))?;
    }
    Ok(())
}

const FLAGS: OFlag =
    OFlag::O_DIRECTORY.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC).union(OFlag::O_RDONLY);

fn open_dir(path: &Path) -> Result<OwnedFd, Error> {
    nix::fcntl::open(path, FLAGS, Mode::empty())
        .map_err(|e| Error::Open { path: path.to_owned(), source: e.into() })
}

fn change(path: &Path, source: Errno) -> Error {
    Error::Change { path: path.to_owned(), source: source.into() }
}

fn mode(bits: u32) -> Mode {
    Mode::from_bits_truncate(bits)
}

fn me() -> u32 {
    nix::unistd::geteuid().as_raw()
}

fn owner_of(container: Container) -> u32 {
    container.uid()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::process::Command;

    use super::*;

    fn scratch() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        for folder in [&paths.run, &paths.home] {
            fs::create_dir_all(folder).unwrap();
        }
        (dir, paths)
    }

    fn root() -> bool {
        let root = me() == 0;
        if !root {
            eprintln!("skipped: needs root");
        }
        root
    }

    #[test]
    fn one_folder_per_writer_and_the_home_is_the_users() {
        if !root() {
            return;
        }
        let (_dir, paths) = scratch();
        fs::set_permissions(&paths.run, fs::Permissions::from_mode(0o777)).unwrap();
        prepare(&paths).unwrap();
        prepare(&paths).unwrap();
        assert_eq!(fs::metadata(&paths.run).unwrap().mode() & 0o7777, 0o755);
        for container in Container::ALL {
            let meta = fs::metadata(paths.run_dir(container)).unwrap();
            assert_eq!((meta.uid(), meta.mode() & 0o7777), (container.uid(), 0o755), "{container:?}");
        }
        let home = fs::metadata(&paths.home).unwrap();
        assert_eq!((home.uid(), home.gid()), (USER_UID, USER_GID));
    }

    /// Unmounts when it goes.
    struct Tmpfs<'a>(&'a Path);

    impl<'a> Tmpfs<'a> {
        fn mount(on: &'a Path) -> Self {
            let made =
                Command::new("mount").args(["-t", "tmpfs", "-o", "mode=0777", "tmpfs"]).arg(on).status();
            assert!(made.unwrap().success());
            Self(on)
        }
    }

    impl Drop for Tmpfs<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }

    #[test]
    fn an_empty_dir_in_memory_that_anybody_may_write() {
        if !root() {
            return;
        }
        let (_dir, paths) = scratch();
        let _run = Tmpfs::mount(&paths.run);
        // Another was faster, and would own what root publishes.
        let planted = paths.run_dir(Container::Daemon);
        fs::create_dir(&planted).unwrap();
        chown(&planted, Some(USER_UID), Some(USER_GID)).unwrap();
        assert!(matches!(prepare(&paths).unwrap_err(), Error::Owner { uid: USER_UID, .. }));
        fs::remove_dir(&planted).unwrap();
        prepare(&paths).unwrap();
        let run = fs::metadata(&paths.run).unwrap();
        assert_eq!((run.uid(), run.mode() & 0o7777), (0, 0o755));
        assert_eq!(fs::metadata(&planted).unwrap().uid(), 0);
    }

    #[test]
    fn a_run_volume_that_somebody_else_owns_is_refused() {
        if !root() {
            return;
        }
        let (_dir, paths) = scratch();
        chown(&paths.run, Some(USER_UID), None).unwrap();
        let error = prepare(&paths).unwrap_err();
        assert!(matches!(error, Error::Owner { uid: USER_UID, .. }), "{error}");
        assert_eq!(error.exit(), Exit::NoPermission);
    }

    #[test]
    fn links_are_not_followed() {
        if !root() {
            return;
        }
        let (dir, paths) = scratch();
        let victim = dir.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::remove_dir(&paths.home).unwrap();
        symlink(&victim, &paths.home).unwrap();
        assert!(matches!(prepare(&paths).unwrap_err(), Error::Open { .. }));
        assert_eq!(fs::metadata(&victim).unwrap().uid(), 0);
        symlink(&victim, paths.run.join("user2")).unwrap();
        fs::remove_dir(paths.run_dir(Container::User)).unwrap();
        symlink(&victim, paths.run_dir(Container::User)).unwrap();
        assert!(matches!(prepare(&paths).unwrap_err(), Error::Owner { .. }));
    }
}
