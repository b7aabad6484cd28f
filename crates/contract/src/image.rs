//! What an image says of itself. `daemon-init bake` writes it when the image is built.

use serde::{Deserialize, Serialize};

/// `/opt/trampoline/image.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageManifest {
    /// sha256 (hex) of the registration dump: two images with the same store have the same id.
    pub id: String,
    /// Version of the image's Nix, e.g. `2.26.3`.
    pub nix_version: String,
    /// `var/nix/db/schema` of the image's store.
    pub schema: u32,
    /// What `FROM` named.
    pub base: String,
    /// Nix's name of the platform, e.g. `x86_64-linux`.
    pub system: String,
    /// Store paths, full, sorted.
    pub paths: Vec<String>,
    /// Version of the agents.
    pub version: String,
    /// sha256 (hex) of the image's `var/nix/db/db.sqlite` while it is at rest: an empty volume gets a copy of that very
    /// file. Absent or different: paths are registered one by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What copies of all paths take on disk, bytes in whole blocks; 0: to be found out. An empty volume needs no look
    /// at each file before the first is copied.
    #[serde(default)]
    pub disk_bytes: u64,
    /// See `disk_bytes`.
    #[serde(default)]
    pub disk_inodes: u64,
}

/// `.trampoline/mark.json` on the store volume: this store is ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Of this file; an agent refuses a higher one.
    pub format: u32,
    /// 32 hex digits, made once.
    pub store_id: String,
    /// [`ImageManifest::id`] that was last seeded whole; empty: a seeding has begun and not ended.
    pub image: String,
    /// The newest Nix that has opened the store.
    pub nix_version: String,
    /// Taken over from the shell scripts.
    #[serde(default)]
    pub adopted: bool,
    /// Identity of the home volume that this store's indirect roots point into.
    #[serde(default)]
    pub home_id: String,
}

/// Nix's name of the platform that this program was built for.
#[must_use]
pub fn system() -> String {
    let machine = match std::env::consts::ARCH {
        "x86" => "i686",
        "arm" => "armv7l",
        other => other,
    };
    format!("{machine}-{}", std::env::consts::OS)
}
