//! What is known after the pod has ended, on the store volume.

use agent::files;
use agent::paths::Paths;
use contract::handshake::{LastStop, file};
use nix::sys::statvfs::statvfs;

use crate::supervise::Ended;

/// At the beginning of a life: what is true of it as long as nothing better is recorded. A killed builder must not be explained by the
/// stop before.
pub fn presume(paths: &Paths) {
    let reason = "it was killed, or its machine went down: nobody could say why".to_owned();
    write(paths, &LastStop { at: 0, reason, last_activity: 0, fs_free_bytes: 0, fs_bytes: 0 });
}

/// Writes it. The builder ends all the same if that fails.
pub fn record(paths: &Paths, ended: &Ended) {
    let (mut fs_bytes, mut fs_free_bytes) = (0, 0);
    if let Ok(stat) = statvfs(&paths.volume()) {
        fs_bytes = stat.blocks() * stat.fragment_size();
        fs_free_bytes = stat.blocks_available() * stat.fragment_size();
    }
    let record = LastStop {
        at: agent::unix_now(),
        reason: ended.reason.clone(),
        last_activity: ended.last_activity,
        fs_free_bytes,
        fs_bytes,
    };
    write(paths, &record);
}

fn write(paths: &Paths, record: &LastStop) {
    if let Err(error) = files::write_json_durably(&paths.mark_dir(), file::LAST_STOP, record) {
        tracing::warn!(error = %agent::status::chain(&error), "reason of the stop not kept");
    }
}
