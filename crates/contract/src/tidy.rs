//! What of the user's own is to go before a collection, and what has gone. user-init does it: nobody else may write there.

use serde::{Deserialize, Serialize};

use crate::handshake::Life;

/// `maintenance`: [`Tidy`].
pub const TIDY: &str = "tidy.json";
/// `user`: [`Tidied`].
pub const TIDIED: &str = "tidied.json";

/// So many are named in an answer at most.
pub const MOST: usize = 10_000;

/// Asks for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidy {
    /// This life.
    pub life: Life,
    /// Nanoseconds of the monotonic clock, which all containers of the pod share.
    pub asked: u64,
    /// Only say what would go.
    pub dry_run: bool,
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tidied {
    /// This life.
    pub life: Life,
    /// [`Tidy::asked`] of what is answered.
    pub asked: u64,
    /// Links of old generations of profiles (see `[maintenance] profiles-older-than`).
    pub generations: Vec<String>,
}
