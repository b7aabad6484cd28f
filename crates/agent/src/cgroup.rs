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

/// Where a container sees its own.
pub const ROOT: &str = "/sys/fs/cgroup";

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

/// What the kernel has counted of the container's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// Processes that were ended for lack of it.
    pub kills: u64,
    /// Most bytes at any time, the cache of files included, where the kernel keeps that.
    pub peak: Option<u64>,
    /// Bytes now, without the cache of files: what cannot be had back.
    pub used: u64,
    /// Whether the kernel ends all processes of the container at once, as a kubelet asks it to.
    pub all_at_once: bool,
}

/// `None`: not told, as where the group is the host's own.
#[must_use]
pub fn memory(root: &Path) -> Option<Memory> {
    let text = |name: &str| fs::read_to_string(root.join(name)).ok();
    let cache = |stat: &str, names: [&str; 2]| names.map(|name| field(stat, name).unwrap_or(0)).iter().sum();
    if root.join("cgroup.controllers").exists() {
        let cached: u64 = cache(&text("memory.stat")?, ["inactive_file", "active_file"]);
        return Some(Memory {
            kills: field(&text("memory.events")?, "oom_kill")?,
            peak: number(&root.join("memory.peak")),
            used: number(&root.join("memory.current"))?.saturating_sub(cached),
            all_at_once: number(&root.join("memory.oom.group")) == Some(1),
        });
    }
    let cached: u64 = cache(&text("memory/memory.stat")?, ["total_inactive_file", "total_active_file"]);
    Some(Memory {
        kills: field(&text("memory/memory.oom_control")?, "oom_kill")?,
        peak: number(&root.join("memory/memory.max_usage_in_bytes")),
        used: number(&root.join("memory/memory.usage_in_bytes"))?.saturating_sub(cached),
        all_at_once: false,
    })
}

/// Of lines `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
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
    fn memory_of_either_version() {
        let second = tree(&[
            ("cgroup.controllers", "cpu memory\n"),
            ("memory.events", "low 0\nhigh 0\nmax 93\noom 4\noom_kill 3\noom_group_kill 1\n"),
            ("memory.stat", "anon 700\nfile 300\ninactive_file 200\nactive_file 100\n"),
            ("memory.current", "1000\n"),
            ("memory.peak", "1024\n"),
            ("memory.oom.group", "1\n"),
        ]);
        let told = Memory { kills: 3, peak: Some(1024), used: 700, all_at_once: true };
        assert_eq!(memory(second.path()), Some(told));
        // Before Linux 5.19.
        fs::remove_file(second.path().join("memory.peak")).unwrap();
        assert_eq!(memory(second.path()).unwrap().peak, None);
        let first = tree(&[
            ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
            ("memory/memory.stat", "inactive_file 5\ntotal_inactive_file 300\ntotal_active_file 1\n"),
            ("memory/memory.usage_in_bytes", "1000\n"),
            ("memory/memory.max_usage_in_bytes", "2000\n"),
        ]);
        let told = Memory { kills: 2, peak: Some(2000), used: 699, all_at_once: false };
        assert_eq!(memory(first.path()), Some(told));
        assert_eq!(memory(tree(&[("cgroup.controllers", "")]).path()), None, "the host's own group");
    }

    #[test]
    fn none_at_all() {
        let dir = tree(&[("cpu/cpu.cfs_quota_us", "-1\n"), ("cpu/cpu.cfs_period_us", "100000\n")]);
        assert_eq!(limits(dir.path()), Limits::default());
    }
}
