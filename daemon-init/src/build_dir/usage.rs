//! What builds take of their volume. Where its storage gives it no more than was asked for the file system knows; elsewhere somebody
//! has to count.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use agent::files;
use contract::config::Size;
use contract::handshake::{Life, file};
use contract::resources::BuildDir;
use nix::sys::statvfs::statvfs;

/// Between two counts while builds run: a large tree takes a second of one CPU.
const BETWEEN: Duration = Duration::from_secs(60);

/// Counts while builds run, and when the last one has ended; publishes what it finds.
#[derive(Debug)]
pub struct Usage {
    volume: PathBuf,
    run_dir: PathBuf,
    life: Life,
    size: Size,
    next: Option<Instant>,
    building: bool,
    counting: Arc<AtomicBool>,
}

impl Usage {
    /// Of the volume mounted at `volume`, for which `size` was asked; publishes in `run_dir`.
    #[must_use]
    pub fn new(volume: &Path, run_dir: &Path, life: &Life, size: Size) -> Self {
        Self {
            volume: volume.to_owned(),
            run_dir: run_dir.to_owned(),
            life: life.clone(),
            size,
            next: None,
            building: true,
            counting: Arc::default(),
        }
    }

    /// So many builds run.
    pub fn look(&mut self, builds: u32) {
        let changed = self.building != (builds > 0);
        self.building = builds > 0;
        if changed || self.next.is_some_and(|at| Instant::now() >= at) {
            self.next = self.building.then(|| Instant::now() + BETWEEN);
            self.count();
        }
    }

    /// When [`Self::look`] wants to be called.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Beside whoever waits; one count at a time.
    fn count(&mut self) {
        if self.counting.swap(true, Ordering::AcqRel) {
            // It may have seen what is gone by now.
            self.next = Some(Instant::now() + BETWEEN);
            return;
        }
        let (volume, run_dir, life, size) =
            (self.volume.clone(), self.run_dir.clone(), self.life.clone(), self.size);
        let counting = Arc::clone(&self.counting);
        let counter = thread::Builder::new().name("count".into()).spawn(move || {
            publish(&volume, &run_dir, life, size);
            counting.store(false, Ordering::Release);
        });
        if let Err(error) = counter {
            self.counting.store(false, Ordering::Release);
            tracing::warn!(%error, "cannot count what builds take");
        }
    }
}

fn publish(volume: &Path, run_dir: &Path, life: Life, size: Size) {
    match measure(volume, life, size) {
        Ok(found) => {
            if !found.enforced && found.used_bytes > found.size_bytes {
                tracing::warn!(
                    used = found.used_bytes,
                    size = found.size_bytes,
                    "builds take more than `build-size`, which the storage of their volume does not enforce"
                );
            }
            if let Err(error) = files::write_json(run_dir, file::BUILD_DIR, &found) {
                tracing::warn!("{}", agent::status::chain(&error));
            }
        }
        Err(error) => tracing::warn!(%error, "cannot tell what builds take of {}", volume.display()),
    }
}

fn measure(volume: &Path, life: Life, size: Size) -> io::Result<BuildDir> {
    let stat = statvfs(volume)?;
    let of = |blocks: u64| blocks * stat.fragment_size();
    // Storage rounds up, e.g. to whole GiB.
    let enforced =
        of(stat.blocks()) <= size.bytes().saturating_add(size.bytes() / 4).max(size.bytes() + (1 << 30));
    let used_bytes = if enforced { of(stat.blocks() - stat.blocks_free()) } else { taken(volume)? };
    Ok(BuildDir {
        life,
        used_bytes,
        size_bytes: size.bytes(),
        enforced,
        fs_free_bytes: of(stat.blocks_available()),
        at: agent::unix_now(),
    })
}

/// Bytes on disk of a tree, without following links. What goes meanwhile is not counted.
fn taken(dir: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if folder == dir => return Err(error),
            Err(_) => continue,
        };
        for entry in entries.flatten() {
            let Ok(meta) = entry.metadata() else { continue };
            // A file of several names is met under each.
            let names = if meta.is_dir() { 1 } else { meta.nlink().max(1) };
            bytes += meta.blocks() * 512 / names;
            if meta.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_builds_take_is_counted_where_nothing_limits_it() {
        let dir = tempfile::tempdir().unwrap();
        let (volume, run_dir) = (dir.path().join("build"), dir.path().join("run"));
        for folder in [&volume.join("now/a/b"), &run_dir] {
            fs::create_dir_all(folder).unwrap();
        }
        let large = volume.join("now/a/b/large");
        fs::write(&large, vec![1; 3 << 20]).unwrap();
        fs::hard_link(&large, volume.join("now/twice")).unwrap();
        symlink("/", volume.join("now/root")).unwrap();
        let mut usage = Usage::new(&volume, &run_dir, &Life("a:1".into()), Size::mib(1));
        usage.look(0);
        let mut watch = agent::watch::DirWatch::new().unwrap();
        watch.add(&run_dir).unwrap();
        let far = Instant::now() + Duration::from_secs(30);
        let found = loop {
            if let Some(found) = files::read_json::<BuildDir>(&run_dir.join(file::BUILD_DIR)).unwrap() {
                break found;
            }
            assert!(watch.wait(Some(far)).unwrap(), "it counts");
        };
        assert!(!found.enforced && found.size_bytes == 1 << 20, "{found:?}");
        assert!((3 << 20..4 << 20).contains(&found.used_bytes), "{found:?}");
        assert_eq!(usage.deadline(), None, "nothing runs");
        usage.look(1);
        assert!(usage.deadline().is_some());
        let of_its_own = statvfs(&volume).unwrap();
        let size = Size(of_its_own.blocks() * of_its_own.fragment_size());
        assert!(measure(&volume, Life("a:1".into()), size).unwrap().enforced);
    }
}
