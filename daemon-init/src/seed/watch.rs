//! How seeding is watched and stopped, and what it relies on for durability.

use super::abort::Abort;
use super::durability::{Disk, Durability};

/// Where seeding stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What a killed run has left in staging is aside.
    Cleared,
    /// Known what is missing.
    Planned,
    /// The volume is marked as ours.
    Begun,
    /// All missing paths are in staging, perhaps only in memory.
    Copied,
    /// They are on disk.
    Durable,
    /// They are in the store folder, not yet valid.
    Placed,
    /// They are valid.
    Registered,
    /// The image is rooted and its profiles are current.
    Rooted,
    /// Everything is on disk; only the mark is missing.
    Settled,
    /// The mark names the image.
    Marked,
}

/// Told of progress. Called from several threads, so it must be quick.
pub trait Observer: Sync {
    /// Bytes copied, of bytes to copy (both as they lie on disk); called every few MiB.
    fn progress(&self, done: u64, total: u64) {
        let _ = (done, total);
    }

    /// A step has ended.
    fn step(&self, step: Step) {
        let _ = step;
    }
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unwatched;

impl Observer for Unwatched {}

/// What seeding is given besides the volume and the image.
pub struct Watch<'a> {
    /// Told of progress.
    pub observer: &'a dyn Observer,
    /// Ends it.
    pub abort: &'a Abort,
    /// [`Disk`] outside tests.
    pub durability: &'a dyn Durability,
}

impl<'a> Watch<'a> {
    /// With real durability.
    #[must_use]
    pub fn new(observer: &'a dyn Observer, abort: &'a Abort) -> Self {
        Self { observer, abort, durability: &Disk }
    }

    /// Between two steps.
    pub(crate) fn step(&self, step: Step) -> Result<(), super::error::StoreError> {
        self.observer.step(step);
        self.abort.check()
    }
}
