//! `.trampoline/mark.json`: this store is ours, and which image was last seeded whole.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use contract::image::Mark;

use crate::random;
use crate::seed::durability::Durability;
use crate::seed::error::{Context, StoreError};

/// Of the mark, below the mark folder.
pub(crate) const MARK_FILE: &str = "mark.json";
/// What this release writes, and the highest that it reads.
pub(crate) const FORMAT: u32 = 1;

/// A mark with an identity of its own.
pub(crate) fn fresh() -> Result<Mark, StoreError> {
    Ok(Mark {
        format: FORMAT,
        store_id: random::name::<16>().context("read", Path::new(random::SOURCE))?,
        image: String::new(),
        nix_version: String::new(),
        adopted: false,
        home_id: String::new(),
    })
}

/// Replaces it; durable on return.
pub(crate) fn write(mark_dir: &Path, mark: &Mark, durability: &dyn Durability) -> Result<(), StoreError> {
    let (path, new) = (mark_dir.join(MARK_FILE), mark_dir.join("mark.json.new"));
    let text = serde_json::to_vec(mark).map_err(|e| StoreError::Io {
        doing: "write",
        path: path.clone(),
        source: e.into(),
    })?;
    // The folder is root's alone: whatever has this name is a killed run's.
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .context("write", &new)?;
    file.write_all(&text).context("write", &new)?;
    durability.file(&file).context("write", &new)?;
    fs::rename(&new, &path).context("write", &path)?;
    File::open(mark_dir).and_then(|dir| durability.file(&dir)).context("write", &path)
}
