//! Damaged paths, remembered on the volume and published for `status`.

use std::path::Path;

use agent::files;
use agent::paths::Paths;
use agent::status::chain;
use contract::damage::{DAMAGE, Damage, Damaged, Fate, Record, SLICE, Slice};
use contract::handshake::Life;
use contract::places::Container;

/// Says each in the log and keeps it for those who look later. That this fails keeps nobody from serving.
pub fn remember(mark_dir: &Path, damaged: Vec<Damaged>) {
    for one in &damaged {
        tracing::error!(path = one.path, "damaged store path: {}; {}", one.what, one.fate.words());
    }
    if damaged.is_empty() {
        return;
    }
    let mut record = recorded(mark_dir);
    // One that waits is told of once.
    record.paths.retain(|old| !damaged.iter().any(|new| (&new.path, new.fate) == (&old.path, old.fate)));
    record.add(damaged);
    write(mark_dir, &record);
}

fn write(mark_dir: &Path, record: &Record) {
    if let Err(error) = files::write_json_durably(mark_dir, DAMAGE, record) {
        tracing::warn!("damaged paths are in this log alone: {}", chain(&error));
    }
}

/// Those of the image that wait for this start.
#[must_use]
pub fn waiting(mark_dir: &Path) -> Vec<String> {
    let waiting = recorded(mark_dir).paths.into_iter().filter(|one| one.fate == Fate::AtNextStart);
    waiting.map(|one| one.path).collect()
}

/// They need not wait any more.
pub fn settled(mark_dir: &Path) {
    let mut record = recorded(mark_dir);
    record.paths.retain(|one| one.fate != Fate::AtNextStart);
    write(mark_dir, &record);
}

/// Publishes what the volume remembers, if there is anything.
pub fn publish(paths: &Paths, life: &Life) {
    let Record { paths: damaged } = recorded(&paths.mark_dir());
    if damaged.is_empty() {
        return;
    }
    let damage = Damage { life: life.clone(), paths: damaged };
    if let Err(error) = files::write_json(&paths.run_dir(Container::Daemon), DAMAGE, &damage) {
        tracing::warn!("damaged paths not published: {}", chain(&error));
    }
}

/// How far maintenance has read the store. What cannot be read is as if it had not begun.
#[must_use]
pub fn slice(mark_dir: &Path) -> Slice {
    files::read_json(&mark_dir.join(SLICE)).ok().flatten().unwrap_or_default()
}

/// Keeps it.
///
/// # Errors
/// When it cannot be written.
pub fn note_slice(mark_dir: &Path, slice: &Slice) -> Result<(), files::Error> {
    files::write_json(mark_dir, SLICE, slice)
}

fn recorded(mark_dir: &Path) -> Record {
    files::read_json(&mark_dir.join(DAMAGE))
        .unwrap_or_else(|error| {
            tracing::warn!("what was damaged before is forgotten: {}", chain(&error));
            None
        })
        .unwrap_or_default()
}
