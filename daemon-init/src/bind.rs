//! The volume's store over the image's.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};

/// The mount failed.
#[derive(Debug, thiserror::Error)]
#[error("bind-mount {} over {}: the daemon container must be privileged (or have CAP_SYS_ADMIN)", from.display(), over.display())]
pub struct Error {
    from: PathBuf,
    over: PathBuf,
    source: io::Error,
}

/// Bind-mounts `from` over `over` in this container's mount namespace; it goes with the container.
///
/// # Errors
/// Without the privilege to mount.
pub fn bind(from: &Path, over: &Path) -> Result<(), Error> {
    mount(Some(from), over, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(|e| Error {
        from: from.to_owned(),
        over: over.to_owned(),
        source: e.into(),
    })
}
