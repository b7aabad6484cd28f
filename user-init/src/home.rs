//! The home volume as sessions expect it.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use agent::paths::Paths;

use crate::error::{Error, Result, io_error};

/// Makes what is missing, each time: the volume may be fresh, or a user may have removed things.
///
/// # Errors
/// When the home is not ours to write.
pub fn prepare(paths: &Paths) -> Result<()> {
    own(&paths.home)?;
    for dir in [paths.projects(), paths.jobs(), crate::ssh::key_dir(paths)] {
        fs::create_dir_all(&dir).map_err(io_error("make", &dir))?;
    }
    let ssh = paths.home.join(".ssh");
    if !ssh.is_dir() {
        fs::create_dir(&ssh).map_err(io_error("make", &ssh))?;
    }
    // sshd's StrictModes refuses keys in a folder that others can write.
    fs::set_permissions(&ssh, Permissions::from_mode(0o700)).map_err(io_error("set the mode of", &ssh))
}

fn own(home: &Path) -> Result<()> {
    let meta = fs::metadata(home).map_err(io_error("open", home))?;
    if meta.uid() != nix::unistd::geteuid().as_raw() {
        let text = format!("owned by uid {}; daemon-init gives it to the user when it starts", meta.uid());
        return Err(Error::Io {
            what: "use",
            path: home.to_owned(),
            source: std::io::Error::new(std::io::ErrorKind::PermissionDenied, text),
        });
    }
    let mode = meta.permissions().mode();
    if mode & 0o022 != 0 {
        fs::set_permissions(home, Permissions::from_mode(mode & 0o7755))
            .map_err(io_error("set the mode of", home))?;
    }
    Ok(())
}
