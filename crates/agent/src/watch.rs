//! Changes in folders, told by the kernel.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use inotify::{EventMask, Inotify, WatchMask};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Where inotify is used up, one look a second.
pub(crate) const LOOK: Duration = Duration::from_secs(1);

/// What appears, is replaced or goes: our writers rename, and Kubernetes swaps a link (`..data`) in a ConfigMap's folder.
const CHANGES: WatchMask = WatchMask::CLOSE_WRITE
    .union(WatchMask::CREATE)
    .union(WatchMask::DELETE)
    .union(WatchMask::MOVED_TO)
    .union(WatchMask::MOVED_FROM)
    .union(WatchMask::ONLYDIR);
/// Nix opens a build user's lock file when a build begins and closes it when it ends.
const OPENS: WatchMask = CHANGES.union(WatchMask::OPEN).union(WatchMask::CLOSE);

/// The first thing that appears, and nothing after it.
const ONCE: WatchMask =
    WatchMask::CREATE.union(WatchMask::MOVED_TO).union(WatchMask::ONLYDIR).union(WatchMask::ONESHOT);

/// A set of watched folders. Where the kernel's instances or watches are used up (128 instances per uid of the *host*; on
/// rootful podman uid 1000 is a person with an IDE), [`DirWatch::is_blind`] says that one has to look.
#[derive(Debug)]
pub struct DirWatch {
    inotify: Option<Inotify>,
    watched: HashSet<PathBuf>,
    blind: bool,
}

/// Reading a folder opens it, which is told like any opening: whoever looks because it was told would be told because it looks.
/// And a folder that goes (`IGNORED`) is never made again while we live.
fn is_noise(mask: EventMask) -> bool {
    let read = EventMask::OPEN | EventMask::CLOSE_NOWRITE;
    mask.contains(EventMask::IGNORED) || (mask.contains(EventMask::ISDIR) && mask.intersects(read))
}

fn used_up(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(code, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOSPC))
}

impl DirWatch {
    /// An empty set.
    ///
    /// # Errors
    /// Any but the kernel's instances being used up.
    pub fn new() -> io::Result<Self> {
        Self::from_init(Inotify::init())
    }

    fn from_init(made: io::Result<Inotify>) -> io::Result<Self> {
        match made {
            Ok(inotify) => Ok(Self { inotify: Some(inotify), watched: HashSet::new(), blind: false }),
            Err(e) if used_up(&e) => {
                tracing::warn!(error = %e, "inotify is used up on this host (fs.inotify.max_user_instances): looking once a second instead");
                Ok(Self { inotify: None, watched: HashSet::new(), blind: true })
            }
            Err(e) => Err(e),
        }
    }

    /// Tells of files that appear, change or go in `dir`. Watching twice is harmless.
    ///
    /// # Errors
    /// Also when there is no such folder: watch its parent for it.
    pub fn add(&mut self, dir: &Path) -> io::Result<()> {
        self.add_with(dir, CHANGES)
    }

    /// As [`Self::add`], and of files that are opened or closed.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_opens(&mut self, dir: &Path) -> io::Result<()> {
        self.add_with(dir, OPENS)
    }

    /// Tells of what is made in `dir`, and of nothing else that happens there.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_made(&mut self, dir: &Path) -> io::Result<()> {
        self.add_with(dir, WatchMask::CREATE | WatchMask::ONLYDIR)
    }

    /// Tells of the next thing that appears in `dir` and then no more, until asked again. For a folder that is not watched
    /// otherwise.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn add_once(&mut self, dir: &Path) -> io::Result<()> {
        self.add_with(dir, ONCE)
    }

    fn add_with(&mut self, dir: &Path, mask: WatchMask) -> io::Result<()> {
        let Some(inotify) = &self.inotify else { return dir.metadata().map(drop) };
        match inotify.watches().add(dir, mask) {
            Ok(_) => {
                self.watched.insert(dir.to_owned());
                Ok(())
            }
            Err(e) if used_up(&e) => {
                if !self.blind {
                    tracing::warn!(error = %e, dir = %dir.display(), "inotify is used up on this host (fs.inotify.max_user_watches): looking once a second instead");
                }
                self.blind = true;
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    /// Takes all pending events; true if there were any.
    pub fn drain(&mut self) -> bool {
        let mut any = false;
        let mut buffer = [0; 4096];
        let Some(inotify) = &mut self.inotify else { return false };
        // The descriptor does not block: an error is `WouldBlock`, the end of what is there.
        while let Ok(events) = inotify.read_events(&mut buffer) {
            let mut got = false;
            for event in events {
                got = true;
                any |= !is_noise(event.mask);
            }
            if !got {
                break;
            }
        }
        any
    }

    /// Takes all pending events, as the names of what they are about. `None` where some may have been missed.
    pub fn drain_names(&mut self) -> Option<Vec<OsString>> {
        let (mut names, mut missed) = (Vec::new(), false);
        let mut buffer = [0; 4096];
        let inotify = self.inotify.as_mut().filter(|_| !self.blind)?;
        while let Ok(events) = inotify.read_events(&mut buffer) {
            let before = names.len();
            for event in events {
                missed |= event.mask.contains(EventMask::Q_OVERFLOW);
                names.push(event.name.map(OsStr::to_owned).unwrap_or_default());
            }
            if names.len() == before {
                break;
            }
        }
        (!missed).then_some(names)
    }

    /// Waits for a change until `deadline`, or for ever; true where there was one, or may have been. For threads that hear no
    /// signals; others have [`crate::wait::Waiter`].
    ///
    /// # Errors
    /// When `poll` fails.
    pub fn wait(&mut self, deadline: Option<Instant>) -> io::Result<bool> {
        loop {
            if self.drain() {
                return Ok(true);
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
            let look = self.blind.then_some(LOOK);
            let timeout = left.into_iter().chain(look).min();
            let mut polled: Vec<PollFd<'_>> =
                self.fd().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).into_iter().collect();
            match poll(&mut polled, rounded_up(timeout)) {
                Ok(0) if self.blind && deadline.is_none_or(|at| Instant::now() < at) => return Ok(true),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Events may be missed: look at least once a second.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.blind
    }

    /// To wait on; none where there is no inotify.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(AsFd::as_fd)
    }
}

/// For `poll`. A wait that ends a fraction too early would spin.
pub(crate) fn rounded_up(timeout: Option<Duration>) -> PollTimeout {
    timeout.map_or(PollTimeout::NONE, |timeout| {
        PollTimeout::try_from(timeout.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_up_instances_mean_looking() {
        for code in [Errno::EMFILE, Errno::ENOSPC] {
            let mut watch = DirWatch::from_init(Err(code.into())).unwrap();
            assert!(watch.is_blind() && watch.fd().is_none() && !watch.drain());
            assert!(watch.add(Path::new("/")).is_ok());
            assert!(watch.add(Path::new("/no such folder")).is_err());
        }
        assert!(DirWatch::from_init(Err(Errno::EACCES.into())).is_err());
    }

    #[test]
    fn looking_is_not_told_but_opening_a_file_is() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("lock"), "").unwrap();
        let mut watch = DirWatch::new().unwrap();
        watch.add_opens(dir.path()).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(!watch.drain());
        drop(std::fs::File::open(dir.path().join("lock")).unwrap());
        assert!(watch.drain());
    }

    #[test]
    fn what_is_told_once_is_told_once_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new().unwrap();
        for round in ["a", "b"] {
            watch.add_once(dir.path()).unwrap();
            assert!(!watch.drain());
            std::fs::write(dir.path().join(round), "").unwrap();
            assert!(watch.drain());
            std::fs::write(dir.path().join(format!("{round}-more")), "").unwrap();
            assert!(!watch.drain());
        }
    }

    /// As the kubelet does it: the files are links through `..data`, and that alone is replaced.
    #[test]
    fn a_config_map_that_changes_is_told() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let generation = |name: &str, text: &str| {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join("trampoline.toml"), text).unwrap();
        };
        generation("..1", "old");
        symlink("..1", dir.path().join("..data")).unwrap();
        let config = dir.path().join("trampoline.toml");
        symlink("..data/trampoline.toml", &config).unwrap();
        let mut watch = DirWatch::new().unwrap();
        watch.add(dir.path()).unwrap();
        generation("..2", "new");
        symlink("..2", dir.path().join("..data_tmp")).unwrap();
        // What came before the swap is told as well, and changes nothing.
        watch.drain();
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "old");
        std::fs::rename(dir.path().join("..data_tmp"), dir.path().join("..data")).unwrap();
        assert!(watch.drain());
        assert_eq!(std::fs::read_to_string(&config).unwrap(), "new");
    }

    #[test]
    fn a_rename_into_the_folder_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new().unwrap();
        watch.add(dir.path()).unwrap();
        assert!(!watch.drain());
        crate::files::write_json(dir.path(), "x.json", &1u8).unwrap();
        assert!(watch.drain());
        assert!(!watch.drain());
    }

    #[test]
    fn names_are_told_unless_some_were_missed() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new().unwrap();
        watch.add(dir.path()).unwrap();
        assert_eq!(watch.drain_names(), Some(Vec::new()));
        for name in ["a", "b"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        assert_eq!(watch.drain_names(), Some(vec!["a".into(), "b".into()]));
        let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        for name in 0..=most.trim().parse::<usize>().unwrap() {
            std::fs::write(dir.path().join(name.to_string()), "").unwrap();
        }
        assert_eq!(watch.drain_names(), None);
        assert_eq!(watch.drain_names(), Some(Vec::new()));
    }

    #[test]
    fn a_change_ends_a_wait_and_so_does_its_deadline() {
        let dir = tempfile::tempdir().unwrap();
        let mut watch = DirWatch::new().unwrap();
        watch.add(dir.path()).unwrap();
        let soon = || Some(Instant::now() + Duration::from_millis(20));
        assert!(!watch.wait(soon()).unwrap());
        let far = Some(Instant::now() + Duration::from_secs(60));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| watch.wait(far).unwrap());
            std::fs::write(dir.path().join("x"), "").unwrap();
            assert!(waiting.join().unwrap());
        });
    }
}
