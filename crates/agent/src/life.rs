//! Which life of the pod this is.

use std::fs;
use std::io;
use std::path::Path;

use contract::handshake::Life;

use crate::paths::Paths;
use crate::proc;

/// Ticks a second in `/proc`, on every architecture.
const USER_HZ: u64 = 100;

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

/// When the pod began, in seconds since the epoch; for display, as the wall clock may have been set since.
#[must_use]
pub fn began(paths: &Paths, life: &Life) -> Option<u64> {
    let ticks: u64 = life.0.rsplit_once(':')?.1.parse().ok()?;
    let stat = fs::read_to_string(paths.proc.join("stat")).ok()?;
    let booted: u64 = stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted + ticks / USER_HZ)
}

/// Whether the pod is a cluster's: kubelets tell every container where the API server is.
#[must_use]
pub fn in_cluster() -> bool {
    std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_began_between_the_boot_and_now() {
        let paths = Paths::default();
        let began = began(&paths, &current(&paths).unwrap()).unwrap();
        // The kernel rounds the time of the boot.
        assert!(began > 1_600_000_000 && began <= crate::unix_now() + 1, "{began}");
    }
}
