//! The container's limits, from either version of cgroups.

use std::fs;
use std::path::Path;

use contract::config::{Capacity, Size};

/// What the engine allows this container. `None`: no limit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<u64>,
    /// CPUs, in parts too.
    pub cpus: Option<f64>,
    /// Processes.
    pub pids: Option<u64>,
}

/// v1 writes "no limit" as a number near 2^63, rounded to pages.
const V1_NONE: u64 = 1 << 60;

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Reads `/sys/fs/cgroup` (`root`) as the container sees it: its own group stands at the root (v2, or v1 as bind-mounted by the
/// runtime). With a host's cgroup namespace the numbers are the host's, which means no limit.
#[must_use]
pub fn limits(root: &Path) -> Limits {
    if root.join("cgroup.controllers").exists() {
        let cpus = fs::read_to_string(root.join("cpu.max")).ok().and_then(|text| {
            let (quota, period) = text.trim().split_once(' ')?;
            Some(quota.parse::<f64>().ok()? / period.parse::<f64>().ok()?)
        });
        return Limits {
            memory: number(&root.join("memory.max")),
            cpus,
            pids: number(&root.join("pids.max")),
        };
    }
    let quota = fs::read_to_string(root.join("cpu/cpu.cfs_quota_us")).ok();
    let quota = quota.and_then(|q| q.trim().parse::<f64>().ok()).filter(|q| *q > 0.0);
    let period = number(&root.join("cpu/cpu.cfs_period_us"));
    Limits {
        memory: number(&root.join("memory/memory.limit_in_bytes")).filter(|m| *m < V1_NONE),
        #[expect(clippy::cast_precision_loss, reason = "a period is at most a million")]
        cpus: quota.zip(period).map(|(q, p)| q / p as f64),
        pids: number(&root.join("pids/pids.max")),
    }
}

/// What this container may use: its limits, or the machine's where it has none.
#[must_use]
pub fn capacity(root: &Path, proc: &Path) -> Capacity {
    let limits = limits(root);
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let cpus = limits.cpus.unwrap_or_else(|| f64::from(u32::try_from(cpus).unwrap_or(u32::MAX)));
    let machine = fs::read_to_string(proc.join("meminfo")).ok().and_then(|text| total_memory(&text));
    let memory = match (limits.memory, machine) {
        (Some(limit), Some(machine)) => limit.min(machine),
        (a, b) => a.or(b).unwrap_or(Size::gib(1).bytes()),
    };
    Capacity { cpus, memory: Size(memory) }
}

/// `MemTotal:       24684092 kB`.
fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(line.split_ascii_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    #[test]
    fn version_two() {
        let dir = tree(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("memory.max", "1073741824\n"),
            ("cpu.max", "150000 100000\n"),
            ("pids.max", "max\n"),
        ]);
        let limits = limits(dir.path());
        assert_eq!(limits, Limits { memory: Some(1 << 30), cpus: Some(1.5), pids: None });
    }

    #[test]
    fn version_one() {
        let dir = tree(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("cpu/cpu.cfs_quota_us", "200000\n"),
            ("cpu/cpu.cfs_period_us", "100000\n"),
            ("pids/pids.max", "2048\n"),
        ]);
        assert_eq!(limits(dir.path()), Limits { memory: None, cpus: Some(2.0), pids: Some(2048) });
    }

    #[test]
    fn none_at_all() {
        let dir = tree(&[("cpu/cpu.cfs_quota_us", "-1\n"), ("cpu/cpu.cfs_period_us", "100000\n")]);
        assert_eq!(limits(dir.path()), Limits::default());
    }
}
