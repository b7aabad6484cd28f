//! The Linux runtime that the agents share: signals and waiting, files on the run volume, the
//! pod's life, configuration that changes under way, and how an agent ends.
//!
//! Synchronous. Agents on tokio use the descriptors of [`watch::DirWatch`] with their own reactor.

pub mod args;
pub mod cgroup;
pub mod config;
pub mod control;
pub mod entry;
#[cfg(feature = "tokio")]
pub mod events;
pub mod files;
pub mod in_use;
pub mod last_words;
pub mod life;
pub mod lock;
pub mod log;
pub mod nar;
pub mod out_of_memory;
pub mod paths;
pub mod proc;
pub mod published;
pub mod ready;
pub mod room;
pub mod signals;
pub mod status;
pub mod tidy;
pub mod wait;
pub mod watch;

/// Seconds since the epoch, for display and records; durations are measured with `Instant`.
#[must_use]
pub fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
