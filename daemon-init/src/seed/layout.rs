//! The folders of a store, as Nix itself makes them.

use std::fs::{OpenOptions, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown, symlink};

use nix::fcntl::OFlag;

use super::Image;
use super::error::{Context, StoreError};
use crate::volume::{Volume, make_folder};

/// Below the volume's root.
const FOLDERS: &[(&str, u32)] = &[
    ("var", 0o755),
    ("var/nix", 0o755),
    ("var/nix/db", 0o755),
    ("var/nix/gcroots", 0o755),
    ("var/nix/profiles", 0o755),
    ("var/nix/temproots", 0o755),
];

/// Makes what is absent.
pub(super) fn make(volume: &Volume, image: &Image) -> Result<(), StoreError> {
    let store = volume.path().join("store");
    if std::fs::symlink_metadata(&store).is_err() {
        make_folder(&store, 0o755)?;
        // Build users put their outputs there, hence their group and the sticky bit.
        let source = image.nix().join("store");
        let group = std::fs::metadata(&source).context("look at", &source)?.gid();
        let dir = OpenOptions::new()
            .read(true)
            .custom_flags((OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits())
            .open(&store)
            .context("open", &store)?;
        match fchown(&dir, Some(0), Some(group)) {
            // Root without that power: nix-daemon gives it its group when it opens the store.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {}
            done => done.context("set the group of", &store)?,
        }
        dir.set_permissions(Permissions::from_mode(0o1775)).context("set the mode of", &store)?;
    }
    for (folder, mode) in FOLDERS {
        let path = volume.path().join(folder);
        if std::fs::symlink_metadata(&path).is_err() {
            make_folder(&path, *mode)?;
        }
    }
    // Where the volume will be seen: Nix, opening it as a chroot store first, would link to where it is now.
    let profiles = volume.state().join("gcroots/profiles");
    if std::fs::symlink_metadata(&profiles).is_err() {
        symlink("/nix/var/nix/profiles", &profiles).context("make", &profiles)?;
    }
    Ok(())
}
