//! Which life of the pod this is.

use std::fs;
use std::io;
use std::path::Path;

use contract::handshake::Life;

use crate::paths::Paths;
use crate::proc;

/// Boot id and start time of PID 1: the pod's infra container, whose PID namespace all containers share. It ends with the
/// pod and not with a container.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn current(paths: &Paths) -> io::Result<Life> {
    let start = proc::start_time(&paths.proc, 1)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(Life(format!("{}:{start}", boot(&paths.proc)?)))
}

/// Another each time that the kernel starts.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn boot(proc: &Path) -> io::Result<String> {
    Ok(fs::read_to_string(proc.join("sys/kernel/random/boot_id"))?.trim().to_owned())
}
