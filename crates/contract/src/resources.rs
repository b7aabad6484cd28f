//! What a container has used of what it is given: files on the run volume, and what is said of them.

use serde::{Deserialize, Serialize};

use crate::config::Size;
use crate::handshake::Life;
use crate::places::Container;

/// The kernel's killing for lack of memory in one container, written by its agent when it has begun and when it has killed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// This life.
    pub life: Life,
    /// Processes that were ended for lack of memory, since the container started.
    pub kills: u64,
    /// Bytes that the container may use; none: as many as the machine has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// Most bytes that it has used since it started, the cache of files included; none: the kernel does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak: Option<u64>,
    /// Seconds since the epoch when the last one was noticed; 0: none was.
    pub last_kill: u64,
}

impl Memory {
    /// What has happened since `before` was read, and what to do about it; none: nothing. A counter that has gone back is that of
    /// a container that has started again.
    #[must_use]
    pub fn since(&self, before: u64, container: Container) -> Option<String> {
        let kills = if self.kills < before { self.kills } else { self.kills - before };
        let processes = match kills {
            0 => return None,
            1 => "a process".to_owned(),
            n => format!("{n} processes"),
        };
        let (table, besides) = match container {
            Container::Daemon => (
                "[builder.daemon]",
                "; fewer builds at once need less (`max-jobs` and `cores` under [daemon])",
            ),
            Container::User => ("[builder.user]", ""),
            Container::Maintenance => ("[builder.maintenance]", ""),
            Container::ShutdownMonitor => ("[builder.shutdown-monitor]", ""),
        };
        Some(format!(
            "{processes} of the {} container ended for lack of memory ({}): raise `memory` under {table}{besides}",
            container.name(),
            self.amounts(),
        ))
    }

    fn amounts(&self) -> String {
        let limit = match self.limit {
            Some(limit) => format!("limit {}", mebibytes(limit)),
            None => "no limit but the machine's".to_owned(),
        };
        match self.peak {
            Some(peak) => format!("{limit}, peak {}", mebibytes(peak)),
            None => limit,
        }
    }
}

/// As options are written.
fn mebibytes(bytes: u64) -> Size {
    Size::mib(bytes.div_ceil(1 << 20))
}

/// Where builds work, written by daemon-init when it has looked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildDir {
    /// This life.
    pub life: Life,
    /// Bytes that builds take of it, and what they have left there.
    pub used_bytes: u64,
    /// `build-size`, bytes.
    pub size_bytes: u64,
    /// Whether the storage gives it no more than that: its file system is no larger than what was asked for.
    pub enforced: bool,
    /// Free bytes of its file system.
    pub fs_free_bytes: u64,
    /// Seconds since the epoch.
    pub at: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(kills: u64, limit: Option<u64>) -> Memory {
        Memory { life: Life("a:1".into()), kills, limit, peak: Some((1 << 30) - 1), last_kill: 1 }
    }

    #[test]
    fn what_is_told_names_limit_peak_and_option() {
        let daemon = |memory: Memory, before| memory.since(before, Container::Daemon);
        assert_eq!(daemon(memory(3, Some(1 << 30)), 3), None);
        assert_eq!(
            daemon(memory(4, Some(1 << 30)), 3).unwrap(),
            "a process of the daemon container ended for lack of memory (limit 1Gi, peak 1Gi): raise `memory` under \
             [builder.daemon]; fewer builds at once need less (`max-jobs` and `cores` under [daemon])"
        );
        assert_eq!(daemon(memory(0, None), 3), None, "a container that has started again");
        assert_eq!(
            memory(2, None).since(3, Container::User).unwrap(),
            "2 processes of the user container ended for lack of memory (no limit but the machine's, peak 1Gi): raise \
             `memory` under [builder.user]"
        );
    }
}
