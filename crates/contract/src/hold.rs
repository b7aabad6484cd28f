//! `trampoline-cli hold`: what may be asked for.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Where it is kept: in the folder that is the jobs' parent.
pub const FILE: &str = "hold.json";
/// A builder that nobody wants any more must stop in the end.
pub const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes of a reason, which is shown on one line.
pub const REASON_MAX: usize = 200;

/// What `user-init hold set` reads.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// From now on.
    pub seconds: u64,
    /// For others; may be empty.
    #[serde(default)]
    pub reason: String,
    /// `user@host` of the client.
    pub by: String,
}
