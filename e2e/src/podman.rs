//! What only podman as root has, for scenarios that need [`crate::engine::Need::Podman`].

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use tempfile::TempDir;

use crate::call::Call;

/// `daemon-init` of a builder, as this machine numbers it, where one runs. podman would be asked for longer than the
/// process may live.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn daemon_process(builder: &str) -> Option<i32> {
    let volume = format!("/trampoline-{builder}-store/");
    let processes = std::fs::read_dir("/proc").expect("it is mounted");
    processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).find(|process| {
        // A process that is gone by now is not the one.
        let read =
            |name: &str| std::fs::read_to_string(format!("/proc/{process}/{name}")).unwrap_or_default();
        read("comm") == "daemon-init\n" && read("mountinfo").contains(&volume)
    })
}

/// A random moment within a span.
#[must_use]
pub fn moment_within(span: Duration) -> Duration {
    // Thousandths are finer than the scheduler.
    let part = u32::try_from(RandomState::new().hash_one(()) % 1000).expect("below a thousand");
    span * part / 1000
}

/// Images, containers and volumes of podman's in a place of their own, so that what podman does to all of them
/// touches nobody else's. The machine's images can be used, and not changed.
#[derive(Debug)]
pub struct Storage {
    dir: TempDir,
}

impl Storage {
    /// An empty one.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn new() -> Self {
        let shared = Call::new("podman").args(["info", "--format", "{{.Store.GraphRoot}}"]).run().ok();
        // On a disk: in memory it would take what the builds need.
        let dir =
            tempfile::Builder::new().prefix("t-storage-").tempdir_in("/var/tmp").expect("a temporary folder");
        let storage = Self { dir };
        let (graph, run) = (storage.dir.path().join("graph"), storage.dir.path().join("run"));
        let text = format!(
            "[storage]\ndriver = \"overlay\"\ngraphroot = {graph:?}\nrunroot = {run:?}\n\
             [storage.options]\nadditionalimagestores = [{:?}]\n",
            shared.text()
        );
        std::fs::write(storage.file(), text).expect("a folder of ours");
        storage
    }

    /// For `CONTAINERS_STORAGE_CONF`.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("storage.conf")
    }

    /// podman on this storage.
    #[must_use]
    pub fn podman<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Call {
        Call::new("podman").args(args).env("CONTAINERS_STORAGE_CONF", self.file())
    }

    /// What `podman system prune` takes of pods and containers. It would take networks as well, which all storages of a machine share:
    /// one that nobody of this storage uses would go under the others that start.
    ///
    /// # Panics
    /// If podman does not do it.
    pub fn prune(&self) {
        for what in ["pod", "container"] {
            self.podman([what, "prune", "-f"]).run().ok();
        }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Storage {
    fn drop(&mut self) {
        // podman keeps it mounted on itself.
        let _ = Call::new("umount").arg("-l").arg(self.dir.path().join("graph/overlay")).run();
    }
}
