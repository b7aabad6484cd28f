//! Which life of the pod this is.

use std::fs;
use std::io;

use contract::handshake::Life;

use crate::paths::Paths;
use crate::proc;

/// Boot id and start time of PID 1: the pod's infra container, whose PID namespace all containers share. It ends with the
/// pod and not with a container.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn current(paths: &Paths) -> io::Result<Life> {
    let boot = fs::read_to_string(paths.proc.join("sys/kernel/random/boot_id"))?;
    let start = proc::start_time(&paths.proc, 1)?.ok_or(io::ErrorKind::NotFound)?;
    Ok(Life(format!("{}:{start}", boot.trim())))
}
