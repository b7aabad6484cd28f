//! Counts of the builder's lives, on the store volume. A life that is still open when the next one begins was ended by nobody who
//! could say so: killed, or the machine went down.

use agent::files;
use agent::paths::Paths;
use contract::handshake::{Life, Lives, file};
use contract::places::Container;
use serde::{Deserialize, Serialize};

/// `lives.json` on the volume.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    wakes: u64,
    idle: u64,
    asked: u64,
    killed: u64,
    /// One that has begun, and has not ended that we know of.
    open: Option<Life>,
}

/// Once a life; a daemon-init that is started again in it changes nothing. A volume that takes no file costs the counts and nothing
/// else.
pub fn begin(paths: &Paths, life: &Life) {
    let mut kept = read(paths);
    if kept.open.as_ref() != Some(life) {
        kept.killed += u64::from(kept.open.is_some());
        kept.wakes += 1;
        kept.open = Some(life.clone());
        write(paths, &kept);
    }
    let Kept { wakes, idle, asked, killed, .. } = kept;
    let lives = Lives { life: life.clone(), wakes, idle, asked, killed };
    if let Err(error) = files::write_json(&paths.run_dir(Container::Daemon), file::LIVES, &lives) {
        tracing::debug!(error = %error, "counts of lives not published");
    }
}

/// It ends: because nothing was done, or because somebody asked for it.
pub fn end(paths: &Paths, idle: bool) {
    let mut kept = read(paths);
    if kept.open.take().is_none() {
        return;
    }
    *(if idle { &mut kept.idle } else { &mut kept.asked }) += 1;
    write(paths, &kept);
}

fn read(paths: &Paths) -> Kept {
    files::read_json(&paths.mark_dir().join(file::LIVES)).ok().flatten().unwrap_or_default()
}

fn write(paths: &Paths, kept: &Kept) {
    if let Err(error) = files::write_json_durably(&paths.mark_dir(), file::LIVES, kept) {
        tracing::warn!(error = %error, "counts of lives not kept");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_life_counts_once_and_one_without_an_end_was_killed() {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        for folder in [paths.mark_dir(), paths.run_dir(Container::Daemon)] {
            std::fs::create_dir_all(folder).unwrap();
        }
        let life = |name: &str| Life(name.to_owned());
        begin(&paths, &life("1"));
        begin(&paths, &life("1"));
        end(&paths, true);
        begin(&paths, &life("2"));
        end(&paths, false);
        end(&paths, false);
        begin(&paths, &life("3"));
        begin(&paths, &life("4"));
        let path = paths.run_dir(Container::Daemon).join(file::LIVES);
        let published = files::read_live::<Lives>(&path, &life("4")).unwrap();
        assert_eq!(published, Some(Lives { life: life("4"), wakes: 4, idle: 1, asked: 1, killed: 1 }));
    }
}
