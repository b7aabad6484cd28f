//! The store volume: whose it is, and that it is ours alone while we use it. Everything is decided before
//! anything is changed.

pub(crate) mod lock;
pub(crate) mod mark;
pub(crate) mod version;

mod classify;
mod legacy;

use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::image::Mark;
use contract::places;
use nix::fcntl::{Flock, OFlag};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use self::classify::Found;
use crate::seed::Image;
use crate::seed::abort::Abort;
use crate::seed::durability::Durability;
use crate::seed::error::{Context, StoreError};

/// How long a lock that is held is waited for: a killed run's last `nix-store` may take this long to end.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// How to open a volume.
#[derive(Debug)]
pub struct Open<'a> {
    /// The folder that holds the volume as `nix` ([`places::VOLUME_ROOT`]).
    pub root: &'a Path,
    /// The image that is to use it.
    pub image: &'a Image,
    /// Take over a copied `/nix` without our mark.
    pub adopt: bool,
    /// Ends the check of a store that is to be taken over.
    pub abort: &'a Abort,
}

/// A volume that is locked until this is dropped.
#[derive(Debug)]
pub struct Volume {
    root: PathBuf,
    path: PathBuf,
    dir: File,
    mark: Option<Mark>,
    lock: Flock<File>,
    /// Of the volume's own folder: holds before there is a mark folder.
    _guard: Option<Flock<File>>,
}

/// Locks the volume, looks at what it holds, and refuses what the image must not touch.
///
/// # Errors
/// One variant per reason; see [`StoreError::exit`].
pub fn open(how: &Open<'_>) -> Result<Volume, StoreError> {
    let path = how.root.join("nix");
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(&path)
        .context("open the store volume", &path)?;
    let guard = lock::take_folder(&dir, LOCK_WAIT, &path)?;
    if fstatvfs(&dir).context("look at", &path)?.flags().contains(FsFlags::ST_RDONLY) {
        return Err(StoreError::ReadOnly { path });
    }
    let found = classify::classify(&dir, &path, how.image.manifest())?;
    if found == Found::Legacy {
        if !how.adopt {
            return Err(StoreError::Legacy { path });
        }
        legacy::check(&path, how.image, how.abort)?;
    }
    // From here on it is ours to change.
    own(&dir, 0o755, &path)?;
    let mark_dir = path.join(places::MARK_DIR);
    make_folder(&mark_dir, 0o700)?;
    let file = lock::open(&mark_dir.join("lock")).context("open the lock of", &path)?;
    let lock = lock::take(file, LOCK_WAIT, &path)?;
    let mut volume = Volume { root: how.root.into(), path, dir, mark: None, lock, _guard: guard };
    match found {
        Found::Fresh => {}
        Found::Ours(mark) => volume.mark = Some(mark),
        Found::Legacy => {
            let adopted = Mark { adopted: true, ..mark::fresh()? };
            volume.set_mark(adopted, &crate::seed::durability::Disk)?;
        }
    }
    Ok(volume)
}

impl Volume {
    /// What others see as `/nix`.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Absent before the first seeding has begun.
    #[must_use]
    pub fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    /// Whether the image was seeded whole, and no other since.
    #[must_use]
    pub fn holds(&self, image: &Image) -> bool {
        self.mark.as_ref().is_some_and(|m| m.image == image.manifest().id)
    }

    /// The folder that holds the volume as `nix`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// For `syncfs` and `fstatvfs`.
    pub(crate) fn dir(&self) -> &File {
        &self.dir
    }

    /// Children keep it open.
    pub(crate) fn lock(&self) -> &File {
        &self.lock
    }

    /// Ours alone.
    pub(crate) fn mark_dir(&self) -> PathBuf {
        self.path.join(places::MARK_DIR)
    }

    /// Where a store path lies, given its name below the store folder.
    pub(crate) fn store_path(&self, name: &str) -> PathBuf {
        self.path.join("store").join(name)
    }

    /// Nix's own folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.path.join("var/nix")
    }

    /// The store's roots point into this home from now on.
    pub(crate) fn remember_home(&mut self, home: &str) -> Result<(), StoreError> {
        let Some(mark) = self.mark.clone() else { return Ok(()) };
        self.set_mark(Mark { home_id: home.to_owned(), ..mark }, &crate::seed::durability::Disk)
    }

    /// What the image brings has to be brought again.
    pub(crate) fn forget_image(&mut self) -> Result<(), StoreError> {
        let Some(mark) = self.mark.clone() else { return Ok(()) };
        self.set_mark(Mark { image: String::new(), ..mark }, &crate::seed::durability::Disk)
    }

    /// Replaces the mark; durable on return.
    pub(crate) fn set_mark(&mut self, mark: Mark, durability: &dyn Durability) -> Result<(), StoreError> {
        mark::write(&self.mark_dir(), &mark, durability)?;
        self.mark = Some(mark);
        Ok(())
    }
}

/// Makes a folder of root's, or makes it so. The mode is set by itself: a new folder inherits a setgid bit that
/// Kubernetes puts on volumes, and it would break sandboxed builds.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), StoreError> {
    match fs::create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(StoreError::io("make", path, error)),
    }
    let dir = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
        .open(path)
        .context("open", path)?;
    own(&dir, mode, path)
}

fn own(dir: &File, mode: u32, path: &Path) -> Result<(), StoreError> {
    let stat = dir.metadata().context("look at", path)?;
    if (stat.uid(), stat.gid()) != (0, 0) {
        fchown(dir, Some(0), Some(0)).context("take over", path)?;
    }
    if stat.mode() & 0o7777 != mode {
        dir.set_permissions(Permissions::from_mode(mode)).context("set the mode of", path)?;
    }
    Ok(())
}
