//! What user-init sees in use, as roots of the store.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use agent::paths::Paths;
use contract::in_use::{MOST, is_name};

use crate::roots::{IN_USE, gcroots};
use crate::seed::error::{Context, StoreError};

fn folder(paths: &Paths) -> PathBuf {
    gcroots(paths).join(IN_USE)
}

/// Makes the roots be those of `names`, as far as these are names of paths that exist. A root that stays is not touched: a collection
/// may be reading them. What does not stay goes last.
///
/// # Errors
/// When a root cannot be made or removed.
pub(super) fn keep(paths: &Paths, names: &BTreeSet<String>) -> Result<(), StoreError> {
    let (folder, store) = (folder(paths), paths.nix.join("store"));
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(StoreError::io("make", &folder, error));
        }
        _ => {}
    }
    let there = |name: &Path| fs::symlink_metadata(store.join(name)).is_ok();
    let wanted: BTreeSet<&str> = names
        .iter()
        .map(String::as_str)
        .filter(|name| is_name(name) && there(Path::new(name)))
        .take(MOST)
        .collect();
    for name in &wanted {
        let root = folder.join(name);
        match symlink(store.join(name), &root) {
            // Its name says where it leads.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.context("make", &root)?,
        }
    }
    for entry in fs::read_dir(&folder).context("list", &folder)? {
        let entry = entry.context("list", &folder)?;
        if !entry.file_name().to_str().is_some_and(|name| wanted.contains(name)) {
            fs::remove_file(entry.path()).context("remove", &entry.path())?;
        }
    }
    Ok(())
}

/// Nothing runs any more.
///
/// # Errors
/// When a root cannot be removed.
pub(super) fn clear(paths: &Paths) -> Result<(), StoreError> {
    let folder = folder(paths);
    match fs::remove_dir_all(&folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", &folder, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = [
        "00000000000000000000000000000000-a",
        "11111111111111111111111111111111-b",
        "22222222222222222222222222222222-c",
    ];

    fn scratch() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        fs::create_dir_all(paths.nix.join("var/nix/gcroots")).unwrap();
        for name in &NAMES[..2] {
            fs::create_dir_all(paths.nix.join("store").join(name)).unwrap();
        }
        (dir, paths)
    }

    fn kept(paths: &Paths) -> Vec<String> {
        let mut found: Vec<String> = fs::read_dir(folder(paths))
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let name = entry.file_name().into_string().unwrap();
                assert_eq!(fs::read_link(entry.path()).unwrap(), paths.nix.join("store").join(&name));
                name
            })
            .collect();
        found.sort();
        found
    }

    fn keep_these(paths: &Paths, names: &[&str]) {
        keep(paths, &names.iter().map(ToString::to_string).collect()).unwrap();
    }

    #[test]
    fn roots_come_and_go_with_what_is_in_use() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, paths) = scratch();
        keep_these(&paths, &NAMES);
        assert_eq!(kept(&paths), NAMES[..2], "what does not exist needs no root");
        let inode = || fs::symlink_metadata(folder(&paths).join(NAMES[1])).unwrap().ino();
        let before = inode();
        keep_these(&paths, &NAMES[1..]);
        assert_eq!(kept(&paths), NAMES[1..2]);
        assert_eq!(inode(), before, "one that stays is never away");
        keep_these(&paths, &[]);
        assert!(kept(&paths).is_empty());
        clear(&paths).unwrap();
        clear(&paths).unwrap();
        assert!(!folder(&paths).exists());
    }

    #[test]
    fn what_is_no_name_does_nothing() {
        let (dir, paths) = scratch();
        let victim = dir.path().join("victim");
        fs::write(&victim, "").unwrap();
        keep_these(
            &paths,
            &["..", ".", "", "../../../../victim", "/etc/passwd", "a/b", victim.to_str().unwrap()],
        );
        assert!(kept(&paths).is_empty());
        assert!(victim.exists());
    }
}
