//! An end of a pipe for a command in the pod. See [`super::Engine::hands_over_files`].

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, fchmod};

/// Prepared for a user of the pod, who opens it again where it is handed over: `mode` says what for.
pub(crate) fn handed(end: impl Into<OwnedFd>, mode: u32) -> io::Result<OwnedFd> {
    let end = end.into();
    fchmod(&end, Mode::from_bits_retain(mode))?;
    Ok(end)
}
