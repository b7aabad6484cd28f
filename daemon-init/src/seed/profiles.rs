//! Nix profiles: `NAME -> NAME-N-link -> store path`. The image's `default` holds its programs.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::error::{Context, StoreError};
use super::image::STORE_DIR;
use super::roots;

/// A profile of the image.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Profile {
    /// Path below `var/nix/profiles`, e.g. `default` or `per-user/root/channels`.
    name: PathBuf,
    /// The store path that it leads to.
    pub(super) target: String,
}

/// All profiles below `profiles`, which lies in an image: its links may be absolute, through `/nix`.
pub(super) fn find(nix: &Path) -> Result<Vec<Profile>, StoreError> {
    let base = nix.join("var/nix/profiles");
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let dir = base.join(&folder);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            entries => entries.context("list", &dir)?,
        };
        for entry in entries {
            let entry = entry.context("list", &dir)?;
            let (kind, name) = (entry.file_type().context("look at", &dir)?, folder.join(entry.file_name()));
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_symlink() && generation(&name).is_none() {
                found.extend(resolve(nix, &base.join(&name)).map(|target| Profile { name, target }));
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// Makes the image's profiles current on the volume whose Nix state is `state`. `default` always moves; another only
/// if it is absent or still where an earlier image (one of `olds`) put it. Generations of these images go: each is
/// a root, and would keep a whole image alive.
pub(super) fn switch(
    state: &Path,
    nix: &Path,
    profiles: &[Profile],
    olds: &[PathBuf],
) -> Result<(), StoreError> {
    let base = state.join("profiles");
    for profile in profiles {
        let link = base.join(&profile.name);
        let now = resolve(nix, &link);
        let is_ours = now.as_deref().is_none_or(|now| roots::has(olds, Path::new(now)));
        if now.as_deref() != Some(&profile.target) && (is_ours || profile.name == Path::new("default")) {
            advance(&link, &profile.target)?;
        }
        forget(&link, olds, &profile.target)?;
    }
    Ok(())
}

/// A new generation, made current by a rename.
fn advance(link: &Path, target: &str) -> Result<(), StoreError> {
    let (Some(folder), Some(name)) = (link.parent(), link.file_name()) else { return Ok(()) };
    fs::create_dir_all(folder).context("make", folder)?;
    let name = name.to_string_lossy();
    let number = generations(link)?.into_iter().map(|(n, _)| n).max().unwrap_or(0) + 1;
    let made = format!("{name}-{number}-link");
    symlink(target, folder.join(&made)).context("make", &folder.join(&made))?;
    let new = folder.join(format!(".{name}.new"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(StoreError::io("remove", &new, error));
        }
        _ => {}
    }
    symlink(&made, &new).context("make", &new)?;
    fs::rename(&new, link).context("move", link)
}

/// Removes the generations that lead to an image's own path, but for `keep`.
fn forget(link: &Path, olds: &[PathBuf], keep: &str) -> Result<(), StoreError> {
    let current = fs::read_link(link).ok();
    for (_, path) in generations(link)? {
        let target = fs::read_link(&path).context("read", &path)?;
        let is_current = current.as_deref().and_then(Path::file_name) == path.file_name();
        if !is_current && target != Path::new(keep) && roots::has(olds, &target) {
            fs::remove_file(&path).context("remove", &path)?;
        }
    }
    Ok(())
}

fn generations(link: &Path) -> Result<Vec<(u64, PathBuf)>, StoreError> {
    let (Some(folder), Some(name)) = (link.parent(), link.file_name()) else { return Ok(vec![]) };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).context("list", folder)? {
        let path = entry.context("list", folder)?.path();
        if let Some((base, number)) = generation(&path) {
            if name == base {
                found.push((number, path));
            }
        }
    }
    Ok(found)
}

/// `NAME-N-link` as NAME and N.
fn generation(path: &Path) -> Option<(&str, u64)> {
    let name = path.file_name()?.to_str()?.strip_suffix("-link")?;
    let (base, number) = name.rsplit_once('-')?;
    Some((base, number.parse().ok()?))
}

/// The store path at the end of a profile's links; `None` if they lead elsewhere. An absolute link through `/nix`
/// is followed in `nix`, where the link itself lies.
fn resolve(nix: &Path, link: &Path) -> Option<String> {
    let mut at = link.to_path_buf();
    // A profile has two links; more is a loop.
    for _ in 0..4 {
        let target = fs::read_link(&at).ok()?;
        if target.starts_with(STORE_DIR) {
            return target.to_str().map(String::from);
        }
        at = match target.strip_prefix("/nix") {
            Ok(below) => nix.join(below),
            Err(_) => at.parent()?.join(target),
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(base: &Path, name: &str, target: &str) {
        let path = base.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    }

    #[test]
    fn the_default_profile_moves_and_a_users_generation_stays() {
        let scratch = tempfile::tempdir().unwrap();
        let (image, state) = (scratch.path().join("image"), scratch.path().join("volume/var/nix"));
        let profiles = image.join("var/nix/profiles");
        link(&profiles, "default", "/nix/var/nix/profiles/default-1-link");
        link(&profiles, "default-1-link", "/nix/store/new-env");
        link(&profiles, "per-user/root/channels", "channels-1-link");
        link(&profiles, "per-user/root/channels-1-link", "/nix/store/new-channels");
        let found = find(&image).unwrap();
        assert_eq!(found.len(), 2);

        let old = scratch.path().join("volume/var/nix/gcroots/trampoline/old");
        link(&old, "old-env", "/nix/store/old-env");
        let volume = state.join("profiles");
        link(&volume, "default", "default-3-link");
        link(&volume, "default-2-link", "/nix/store/users-env");
        link(&volume, "default-3-link", "/nix/store/old-env");
        link(&volume, "per-user/root/channels", "channels-7-link");
        link(&volume, "per-user/root/channels-7-link", "/nix/store/users-channels");

        for _ in 0..2 {
            switch(&state, &scratch.path().join("volume"), &found, std::slice::from_ref(&old)).unwrap();
            assert_eq!(fs::read_link(volume.join("default")).unwrap(), Path::new("default-4-link"));
            assert_eq!(
                fs::read_link(volume.join("default-4-link")).unwrap(),
                Path::new("/nix/store/new-env")
            );
            assert!(fs::symlink_metadata(volume.join("default-2-link")).is_ok());
            assert!(fs::symlink_metadata(volume.join("default-3-link")).is_err());
            assert!(fs::symlink_metadata(volume.join("default-5-link")).is_err());
            assert_eq!(
                fs::read_link(volume.join("per-user/root/channels")).unwrap(),
                Path::new("channels-7-link")
            );
        }
    }
}
