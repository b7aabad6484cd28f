//! An end of a pipe for a command in the pod. See [`super::Engine::hands_over_files`].

use std::fs::{File, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

/// Prepared for a user of the pod, who opens it again where it is handed over: `mode` says what for.
pub(crate) fn handed(end: impl Into<OwnedFd>, mode: u32) -> io::Result<OwnedFd> {
    let end = File::from(end.into());
    end.set_permissions(Permissions::from_mode(mode))?;
    Ok(end.into())
}
