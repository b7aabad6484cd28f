//! Taking over the store of the shell scripts: a copied `/nix` without our mark.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::seed::Image;
use crate::seed::abort::Abort;
use crate::seed::error::{Context, StoreError};
use crate::seed::image::STORE_DIR;

/// Refuses a store whose database names paths that are not there. Nix's own `--verify` is no help: opening writes to
/// the database, and verifying forgets the missing paths. So Nix reads a copy, and the files are looked for here.
pub(super) fn check(volume: &Path, image: &Image, abort: &Abort) -> Result<(), StoreError> {
    let scratch = Scratch::new()?;
    let db = scratch.0.join("nix/var/nix/db");
    fs::create_dir_all(&db).context("make", &db)?;
    for name in ["db.sqlite", "db.sqlite-wal", "schema"] {
        let from = volume.join("var/nix/db").join(name);
        // The journal, which a killed daemon leaves behind, may hold the newest paths.
        if fs::symlink_metadata(&from).is_ok_and(|m| m.is_file()) {
            fs::copy(&from, db.join(name)).context("copy", &from)?;
        }
    }
    let dump = image.nix_store(&scratch.0)?.dump_db(None, abort)?;
    let entries = crate::seed::registration::parse(&dump)
        .ok_or_else(|| image.broken("its nix-store --dump-db is not understood"))?;
    let missing: Vec<&str> = entries
        .iter()
        .map(|entry| entry.path)
        .filter(|path| {
            let name = path.strip_prefix(STORE_DIR).unwrap_or(path);
            fs::symlink_metadata(volume.join("store").join(name)).is_err()
        })
        .collect();
    match missing.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::LegacyDamaged {
            path: volume.into(),
            count: missing.len(),
            first: (*first).into(),
        }),
    }
}

/// A folder of the container's, removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, StoreError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("trampoline-adopt-{}-{count}", std::process::id()));
        // Fails on whatever is there already, a link included.
        fs::create_dir(&path).context("make", &path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Left in the container's own layer at worst.
        let _ = fs::remove_dir_all(&self.0);
    }
}
