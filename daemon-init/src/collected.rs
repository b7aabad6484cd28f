//! When garbage was collected last, over all lives of the pod: kept beside the mark on the store volume.

use std::path::Path;

use agent::files;
use serde::{Deserialize, Serialize};

const FILE: &str = "collected.json";

#[derive(Debug, Serialize, Deserialize)]
struct Collected {
    /// Seconds since the epoch.
    at: u64,
}

/// When; where there was none yet, or nobody knows, it counts from now on.
///
/// # Errors
/// When that cannot be kept.
pub(crate) fn last(mark_dir: &Path, now: u64) -> Result<u64, files::Error> {
    match files::read_json::<Collected>(&mark_dir.join(FILE)) {
        Ok(Some(last)) => return Ok(last.at),
        Ok(None) => {}
        Err(error) => tracing::warn!("{}", agent::status::chain(&error)),
    }
    note(mark_dir, now)?;
    Ok(now)
}

/// Keeps it.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn note(mark_dir: &Path, at: u64) -> Result<(), files::Error> {
    files::write_json(mark_dir, FILE, &Collected { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_from_the_first_question() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last(dir.path(), 7).unwrap(), 7);
        assert_eq!(last(dir.path(), 9).unwrap(), 7);
        note(dir.path(), 8).unwrap();
        assert_eq!(last(dir.path(), 9).unwrap(), 8);
        std::fs::write(dir.path().join(FILE), "nonsense").unwrap();
        assert_eq!(last(dir.path(), 9).unwrap(), 9);
    }
}
