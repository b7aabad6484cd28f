//! What is known of the store's content: how far it is on disk, which paths were found to be damaged, and what became of them.

use serde::{Deserialize, Serialize};

use crate::handshake::Life;

/// Store volume, below `MARK_DIR`: [`Record`]. Run volume, `daemon`: [`Damage`].
pub const DAMAGE: &str = "damage.json";
/// In seconds.
const LATELY: u64 = 7 * 24 * 3600;
/// Lines of `status`.
const SHOWN: usize = 10;
/// As many are remembered.
pub const REMEMBERED: usize = 200;

/// Store volume, below `MARK_DIR`: [`Checkpoint`].
pub const CHECKPOINT: &str = "checkpoint.json";

/// How far the store is on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Seconds since the epoch by the clock of the file system, which may be a server's: all that was written before is on disk.
    pub at: i64,
    /// Boot id of the kernel under which it was taken.
    pub boot: String,
    /// Nothing has written since.
    pub clean: bool,
}

/// One damaged path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Full store path.
    pub path: String,
    /// Seconds since the epoch when it was found.
    pub at: u64,
    /// By what.
    pub found: Found,
    /// What was wrong with it, for a person.
    pub what: String,
    /// What became of it.
    pub fate: Fate,
}

/// See [`Damaged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Found {
    /// The first start after the machine went down under a running builder.
    Start,
    /// Maintenance, which reads the whole store bit by bit.
    Verify,
}

/// See [`Damaged`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// It is no longer valid, and neither is what referred to it: it is fetched or built again when it is asked for.
    Removed,
    /// Fetched from a substituter.
    Fetched,
    /// Made anew from the image.
    Restored,
    /// When the builder starts next: it is the image's, and made anew then; or it could not be removed while the builder served.
    AtNextStart,
}

/// What a look at the store's content has found.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verified {
    /// Paths that were read.
    pub paths: u64,
    /// The length of their archives, in bytes.
    pub bytes: u64,
    /// Those that were not what was registered.
    pub damaged: Vec<Damaged>,
    /// Those of which nobody could say so, or that could neither be repaired nor removed: each with why, for a person.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<String>,
}

/// Store volume, below `MARK_DIR`: [`Slice`].
pub const SLICE: &str = "slice.json";

/// How far maintenance has read the store.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Slice {
    /// Seconds since the epoch when the last slice was read whole, or when the store was new; 0: nobody has looked yet.
    pub at: u64,
    /// The store path that was read last; empty: the next slice begins with the first one.
    pub cursor: String,
}

/// What the volume remembers.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Record {
    /// The newest last.
    #[serde(default)]
    pub paths: Vec<Damaged>,
}

/// The same, published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// This life.
    pub life: Life,
    /// The newest last.
    pub paths: Vec<Damaged>,
}

impl Damage {
    /// What an operator may not have seen yet: of the last seven days, the newest first, and no more than a few.
    pub fn lately(&self, now: u64) -> impl Iterator<Item = &Damaged> {
        self.paths.iter().rev().filter(move |one| now.saturating_sub(one.at) < LATELY).take(SHOWN)
    }
}

impl Record {
    /// Remembers them; the oldest are forgotten.
    pub fn add(&mut self, more: Vec<Damaged>) {
        self.paths.extend(more);
        let many = self.paths.len().saturating_sub(REMEMBERED);
        self.paths.drain(..many);
    }
}

impl Fate {
    /// For a person.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Removed => {
                "removed with all that referred to it; it is fetched or built again when it is asked for"
            }
            Self::Fetched => "fetched again from a substituter",
            Self::Restored => "made anew from the image",
            Self::AtNextStart => {
                "made anew from the image, or removed, when the builder starts next (down, up)"
            }
        }
    }
}
