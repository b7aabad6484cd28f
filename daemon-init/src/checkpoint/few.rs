//! What has come since the last checkpoint, where it is little. Each file by itself is then sooner on disk than the file system as a
//! whole, for which `syncfs` also waits for what the neighbours write.

use std::fs::{self, DirEntry, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use contract::in_use::is_name;
use nix::fcntl::OFlag;

/// Each costs a commit of the file system's journal.
const FEW: usize = 64;
/// Folders of roots and profiles that are looked at; users can make as many as they like.
const FOLDERS: usize = 1000;

/// Files and folders, opened, which have to be on disk for everything that has come to the store and its roots from `since` on, in
/// seconds by the clock of the file system. `None`: they are not few, or it cannot be told.
pub(super) fn changed(nix: &Path, since: i64) -> Option<Vec<File>> {
    let store = nix.join("store");
    let mut few = Few { since, opened: Vec::new(), folders: FOLDERS };
    // Files of old paths may have been replaced by links to new ones, at any depth.
    if few.has_changed(&store.join(".links"))? {
        return None;
    }
    for entry in fs::read_dir(&store).ok()? {
        let entry = entry.ok()?;
        if is_path(&entry) && few.has_changed(&entry.path())? {
            few.tree(&entry.path())?;
        }
    }
    few.add(&store)?;
    for roots in ["gcroots", "profiles"] {
        few.changed_folders(&nix.join("var/nix").join(roots))?;
    }
    // The database itself must not be opened: to close it would drop SQLite's locks. What is not in its log any more SQLite has
    // made durable.
    let database = nix.join("var/nix/db");
    few.add(&database)?;
    few.add_if_there(&database.join("db.sqlite-wal"))?;
    Some(few.opened)
}

/// What builds have not finished is of no account: it is renamed at its end, which changes it. Until then it can be written to, as no
/// valid path can, whatever its name.
fn is_path(entry: &DirEntry) -> bool {
    let name = entry.file_name();
    let is_sandbox = |name: &str| {
        name.ends_with(".drv.chroot") && entry.metadata().is_ok_and(|meta| meta.mode() & 0o200 != 0)
    };
    name.to_str().is_some_and(|name| is_name(name) && !is_sandbox(name))
}

struct Few {
    since: i64,
    opened: Vec<File>,
    /// That may still be looked at.
    folders: usize,
}

impl Few {
    /// By its time of change, which nobody can set; it is what the verification of a start goes by as well.
    fn has_changed(&self, path: &Path) -> Option<bool> {
        match fs::symlink_metadata(path) {
            Ok(meta) => Some(meta.ctime() >= self.since),
            Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some(false),
        }
    }

    fn add(&mut self, path: &Path) -> Option<()> {
        self.push(open(path).ok()?)
    }

    fn add_if_there(&mut self, path: &Path) -> Option<()> {
        match open(path) {
            Ok(file) => self.push(file),
            Err(error) => (error.kind() == io::ErrorKind::NotFound).then_some(()),
        }
    }

    fn push(&mut self, file: File) -> Option<()> {
        (self.opened.len() < FEW).then(|| self.opened.push(file))
    }

    /// Links are in their folder.
    fn tree(&mut self, path: &Path) -> Option<()> {
        let kind = fs::symlink_metadata(path).ok()?.file_type();
        if kind.is_file() || kind.is_dir() {
            self.add(path)?;
        } else if !kind.is_symlink() {
            // What a build left that has failed; nothing of it can be made durable.
            return None;
        }
        if kind.is_dir() {
            for entry in fs::read_dir(path).ok()? {
                self.tree(&entry.ok()?.path())?;
            }
        }
        Some(())
    }

    /// They hold links alone.
    fn changed_folders(&mut self, folder: &Path) -> Option<()> {
        self.folders = self.folders.checked_sub(1)?;
        if self.has_changed(folder)? {
            self.add(folder)?;
        }
        for entry in fs::read_dir(folder).ok()? {
            let entry = entry.ok()?;
            if entry.file_type().ok()?.is_dir() {
                self.changed_folders(&entry.path())?;
            }
        }
        Some(())
    }
}

/// Profiles are their users': what they put there is not followed, nor waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    const HASH: &str = "0123456789abcdfghijklmnpqrsvwxyz";

    struct Volume(tempfile::TempDir);

    impl Volume {
        fn new() -> Self {
            let volume = Self(tempfile::tempdir().unwrap());
            for folder in ["store/.links", "var/nix/db", "var/nix/gcroots/auto", "var/nix/profiles"] {
                fs::create_dir_all(volume.nix().join(folder)).unwrap();
            }
            volume
        }

        fn nix(&self) -> &Path {
            self.0.path()
        }

        /// A store path with so many files.
        fn add(&self, name: &str, files: usize) -> PathBuf {
            let path = self.nix().join(format!("store/{HASH}-{name}/bin"));
            fs::create_dir_all(&path).unwrap();
            (0..files).for_each(|n| fs::write(path.join(n.to_string()), "").unwrap());
            symlink("nowhere", path.join("link")).unwrap();
            path
        }

        /// How much is opened.
        fn changed(&self, since: i64) -> Option<usize> {
            changed(self.nix(), since).map(|files| files.len())
        }
    }

    /// Nothing that a test writes is as new as this.
    const NEVER: i64 = i64::MAX;
    /// The store's and the database's folder.
    const ALWAYS: usize = 2;

    #[test]
    fn what_came_since_is_what_is_opened() {
        let volume = Volume::new();
        volume.add("new", 3);
        fs::write(volume.nix().join("var/nix/db/db.sqlite-wal"), "").unwrap();
        assert_eq!(volume.changed(NEVER), Some(ALWAYS + 1), "the log of the database, always");
        let links = volume.nix().join("store/.links");
        fs::remove_dir(links).unwrap();
        let roots = 3;
        assert_eq!(volume.changed(0), Some(ALWAYS + 1 + roots + 5));
        fs::create_dir_all(volume.nix().join(format!("store/{HASH}-running.drv.chroot/root"))).unwrap();
        fs::write(volume.nix().join("store/.trampoline"), "").unwrap();
        assert_eq!(volume.changed(0), Some(ALWAYS + 1 + roots + 5), "a build's sandbox is not a path");
    }

    #[test]
    fn much_is_left_to_the_file_system() {
        let volume = Volume::new();
        fs::remove_dir(volume.nix().join("store/.links")).unwrap();
        let beside = volume.changed(0).unwrap();
        volume.add("largest", FEW - beside - 2);
        assert_eq!(volume.changed(0), Some(FEW));
        volume.add("one-more", 0);
        assert_eq!(volume.changed(0), None);
        assert_eq!(volume.changed(NEVER), Some(ALWAYS));
    }

    #[test]
    fn what_is_no_file_is_left_to_the_file_system() {
        let volume = Volume::new();
        fs::remove_dir(volume.nix().join("store/.links")).unwrap();
        let path = volume.add("failed", 1);
        assert!(volume.changed(0).is_some());
        nix::unistd::mkfifo(&path.join("fifo"), nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(volume.changed(0), None);
    }

    #[test]
    fn files_that_were_linked_to_others_are_left_to_the_file_system() {
        let volume = Volume::new();
        fs::write(volume.nix().join("store/.links/file"), "").unwrap();
        assert_eq!(volume.changed(0), None);
        assert_eq!(volume.changed(NEVER), Some(ALWAYS));
    }
}
