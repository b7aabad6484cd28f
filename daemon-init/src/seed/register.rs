//! Makes paths valid whose bytes are on disk.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use contract::hex;
use sha2::{Digest, Sha256};

use super::Image;
use super::abort::Abort;
use super::error::{Context, StoreError};
use super::registration::Entry;
use crate::volume::Volume;

/// Of Nix's database, below [`Volume::state`].
const DB: &str = "db/db.sqlite";

/// Whether the volume has a database.
pub(super) fn has_database(volume: &Volume) -> bool {
    fs::symlink_metadata(volume.state().join(DB)).is_ok()
}

/// The image's own database, if it is as it was when the image was built, staged for an empty volume: for many paths
/// it is far quicker than registering them one by one, and it keeps signatures. `None`: register them.
pub(super) fn stage_database(image: &Image, staging: &Path) -> Result<Option<PathBuf>, StoreError> {
    let Some(expected) = &image.manifest().database else { return Ok(None) };
    let from = image.nix().join("var/nix").join(DB);
    let journal = image.nix().join("var/nix/db/db.sqlite-wal");
    if fs::metadata(&journal).is_ok_and(|m| m.len() > 0) {
        return Ok(None);
    }
    let Ok(mut source) = File::open(&from) else { return Ok(None) };
    let to = staging.join("db.sqlite");
    let mut copy = File::create_new(&to).context("make", &to)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        let got = source.read(&mut buffer).context("read", &from)?;
        if got == 0 {
            break;
        }
        hash.update(&buffer[..got]);
        copy.write_all(&buffer[..got]).context("write", &to)?;
    }
    if hex(&hash.finalize()) == *expected {
        return Ok(Some(to));
    }
    tracing::info!(path = %from.display(), "the image's database was changed; registering its paths instead");
    fs::remove_file(&to).context("remove", &to)?;
    Ok(None)
}

/// Registers `missing`, all at once: by renaming the staged database into place, or through Nix.
pub(super) fn register(
    volume: &Volume,
    image: &Image,
    staged: Option<PathBuf>,
    missing: &[&Entry<'_>],
    abort: &Abort,
) -> Result<(), StoreError> {
    if missing.is_empty() {
        return Ok(());
    }
    if let Some(staged) = staged {
        for journal in ["db.sqlite-wal", "db.sqlite-shm"] {
            remove_if_there(&volume.state().join("db").join(journal))?;
        }
        let schema = volume.state().join("db/schema");
        fs::write(&schema, image.manifest().schema.to_string()).context("write", &schema)?;
        let db = volume.state().join(DB);
        return fs::rename(&staged, &db).context("move into place", &db);
    }
    let text: String = missing.iter().map(|entry| entry.text).collect();
    image.nix_store(volume.root())?.load_db(volume.lock(), &text, abort)
}

fn remove_if_there(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(StoreError::io("remove", path, error)),
        _ => Ok(()),
    }
}
