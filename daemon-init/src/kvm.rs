//! `/dev/kvm`: where builds may ask for it they can open it, or the builder does not start. Nix offers the feature to
//! whatever root can open, and a test that then finds the device closed goes on without it, many times slower.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::libc::O_NOFOLLOW;

/// Build users are nobody's group.
const OPEN_TO_ALL: u32 = 0o666;

/// Builds may ask for it, and cannot use it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, or nothing behind it.
    #[error(
        "`system-features` has \"kvm\", and {} cannot be used: the machine has no virtualization, or does not pass it on; \
         take \"kvm\" out, choose another node, or name the device plugin's resource with `kvm-resource`",
        device.display()
    )]
    Missing {
        /// Its path.
        device: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Build users cannot open it.
    #[error(
        "`system-features` has \"kvm\", and {} is closed to build users (mode {mode:03o}) and not this container's to open; \
         have the machine open it: MODE=\"0666\" in a udev rule for KERNEL==\"kvm\"",
        device.display()
    )]
    Closed {
        /// Its path.
        device: PathBuf,
        /// Its permissions.
        mode: u32,
    },
}

/// Opens the device to build users. What is missing matters only where it was asked for.
///
/// # Errors
/// See [`Error`].
pub fn open_to_builds(asked: bool, device: &Path, proc: &Path) -> Result<(), Error> {
    let done = usable(device).and_then(|file| open(&file, device, proc));
    match done {
        Err(error) if asked => Err(error),
        Err(error) => {
            tracing::debug!("builds get no kvm: {}", agent::status::chain(&error));
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

fn usable(device: &Path) -> Result<File, Error> {
    let missing = |source| Error::Missing { device: device.to_owned(), source };
    let file =
        OpenOptions::new().read(true).write(true).custom_flags(O_NOFOLLOW).open(device).map_err(missing)?;
    match file.metadata() {
        Ok(metadata) if metadata.file_type().is_char_device() => Ok(file),
        Ok(_) => Err(missing(io::Error::other("it is no device"))),
        Err(error) => Err(missing(error)),
    }
}

fn open(file: &File, device: &Path, proc: &Path) -> Result<(), Error> {
    let closed = |mode| Error::Closed { device: device.to_owned(), mode };
    let metadata = file.metadata().map_err(|_| closed(0))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o006 == 0o006 {
        return Ok(());
    }
    // A device that is the machine's own is the machine's to open.
    if !is_ours(device, metadata.dev(), proc) {
        return Err(closed(mode));
    }
    file.set_permissions(Permissions::from_mode(OPEN_TO_ALL)).map_err(|_| closed(mode))
}

/// Whether it was made for this container: in a `/dev` that is in memory, and not mounted there from elsewhere.
fn is_ours(device: &Path, dev: u64, proc: &Path) -> bool {
    let Some(folder) = device.parent() else { return false };
    let same = fs::metadata(folder).is_ok_and(|metadata| metadata.dev() == dev);
    let mounts = fs::read_to_string(proc.join("self/mountinfo")).unwrap_or_default();
    let kind = mounts.lines().rev().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (mount.split(' ').nth(4)? == folder.to_str()?)
            .then(|| kind.split(' ').next().unwrap_or_default().to_owned())
    });
    same && kind.as_deref() == Some("tmpfs")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(device: &str) -> Result<(), Error> {
        open_to_builds(true, device.as_ref(), "/proc".as_ref())
    }

    #[test]
    fn who_asks_gets_it_or_a_refusal() {
        // A device that everybody may open stands for one that is there.
        asked("/dev/null").expect("it is open to all");
        let folder = tempfile::tempdir().expect("a scratch folder");
        let file = folder.path().join("kvm");
        for made in [false, true] {
            if made {
                fs::write(&file, "").expect("scratch");
            }
            let error = asked(file.to_str().expect("no odd folder")).expect_err("nothing is there");
            assert!(matches!(error, Error::Missing { .. }), "{error}");
            open_to_builds(false, &file, "/proc".as_ref()).expect("nobody asks");
        }
        assert_ne!(fs::metadata(&file).expect("it is there").permissions().mode() & 0o777, OPEN_TO_ALL);
    }

    #[test]
    fn only_what_was_made_for_the_container_is_its_own() {
        let proc = tempfile::tempdir().expect("a scratch folder");
        fs::create_dir(proc.path().join("self")).expect("scratch");
        let dev = fs::metadata("/dev").expect("it is there").dev();
        for (kind, ours) in [("tmpfs", true), ("devtmpfs", false)] {
            let line = format!("25 1 0:5 / /dev rw,nosuid shared:2 - {kind} udev rw\n");
            fs::write(proc.path().join("self/mountinfo"), line).expect("scratch");
            assert_eq!(is_ours("/dev/kvm".as_ref(), dev, proc.path()), ours, "{kind}");
            assert!(!is_ours("/dev/kvm".as_ref(), dev + 1, proc.path()), "mounted from elsewhere");
        }
    }
}
