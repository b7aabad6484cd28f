//! The image's paths as GC roots of the volume: without them the first collection deletes nix, sh and the CA bundle.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::{Context, StoreError};
use super::image::STORE_DIR;
use crate::roots::IMAGES;
use crate::volume::{Volume, make_folder};

/// Folder of the images' roots, below Nix's `gcroots`; one folder per image in it.
fn folder(volume: &Volume) -> PathBuf {
    volume.state().join("gcroots").join(IMAGES)
}

/// Roots `paths` (full store paths) for the image. Each of them, not only those that no other refers to: a path that a
/// user had built before may refer to less than the image's path of that name.
pub(super) fn add<'a>(
    volume: &Volume,
    id: &str,
    paths: impl Iterator<Item = &'a str>,
) -> Result<(), StoreError> {
    make_folder(&folder(volume), 0o755)?;
    let own = folder(volume).join(id);
    make_folder(&own, 0o755)?;
    for path in paths {
        let link = own.join(path.strip_prefix(STORE_DIR).unwrap_or(path));
        match symlink(path, &link) {
            // A killed run's, and its name says where it leads.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            other => other.context("make", &link)?,
        }
    }
    Ok(())
}

/// The images that have roots besides `id`.
pub(super) fn others(volume: &Volume, id: &str) -> Result<Vec<PathBuf>, StoreError> {
    let folder = folder(volume);
    let mut others = Vec::new();
    match fs::read_dir(&folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        entries => {
            for entry in entries.context("list", &folder)? {
                let entry = entry.context("list", &folder)?;
                if entry.file_name() != id {
                    others.push(entry.path());
                }
            }
        }
    }
    Ok(others)
}

/// Whether one of these images roots the store path.
pub(super) fn has(images: &[PathBuf], path: &Path) -> bool {
    let name = path.strip_prefix(STORE_DIR).unwrap_or(path);
    images.iter().any(|image| fs::symlink_metadata(image.join(name)).is_ok())
}

/// Gives the roots of these images up.
pub(super) fn drop_images(images: &[PathBuf]) -> Result<(), StoreError> {
    images.iter().try_for_each(|image| fs::remove_dir_all(image).context("remove", image))
}
