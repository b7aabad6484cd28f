//! `/etc` of an image in which everything may be a link into the store.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use contract::places;

use super::below;
use crate::seed::error::{Context, StoreError};

/// Replaces an `/etc` that is itself a link by a folder of links: we must add to it, and what it leads to is
/// read-only by nature.
pub(super) fn make_real(root: &Path) -> Result<(), StoreError> {
    let etc = below(root, "/etc");
    let Ok(target) = fs::read_link(&etc) else {
        return fs::create_dir_all(&etc).context("make", &etc);
    };
    let (inside, new) = (root.join(target.strip_prefix("/").unwrap_or(&target)), below(root, "/.etc.new"));
    fs::create_dir_all(&new).context("make", &new)?;
    for entry in fs::read_dir(&inside).context("list", &inside)? {
        let name = entry.context("list", &inside)?.file_name();
        let link = new.join(&name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(target.join(&name), &link).context("make", &link)?;
        }
    }
    fs::remove_file(&etc).context("remove", &etc)?;
    fs::rename(&new, &etc).context("make", &etc)
}

/// All containers share our nix.conf.
pub(super) fn link_nix_conf(root: &Path) -> Result<(), StoreError> {
    let folder = below(root, "/etc/nix");
    if fs::symlink_metadata(&folder).is_ok_and(|m| m.is_symlink()) {
        fs::remove_file(&folder).context("remove", &folder)?;
    }
    fs::create_dir_all(&folder).context("make", &folder)?;
    let (link, new) = (folder.join("nix.conf"), folder.join("nix.conf.new"));
    if fs::symlink_metadata(&new).is_ok() {
        fs::remove_file(&new).context("remove", &new)?;
    }
    symlink(places::IMAGE_NIX_CONF, &new).context("make", &new)?;
    fs::rename(&new, &link).context("make", &link)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etc_that_is_a_link_becomes_a_folder_of_links() {
        let root = tempfile::tempdir().unwrap();
        let store = root.path().join("nix/store/x-base/etc");
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("hosts"), "here").unwrap();
        symlink("/nix/store/x-base/etc", root.path().join("etc")).unwrap();
        for _ in 0..2 {
            make_real(root.path()).unwrap();
            link_nix_conf(root.path()).unwrap();
            let link = |name: &str| fs::read_link(root.path().join("etc").join(name)).unwrap();
            assert_eq!(link("hosts"), Path::new("/nix/store/x-base/etc/hosts"));
            assert_eq!(link("nix/nix.conf"), Path::new(places::IMAGE_NIX_CONF));
            assert!(!store.join("nix").exists());
        }
    }
}
