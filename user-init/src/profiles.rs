//! Old generations of the user's profiles, by the rules of `nix-env --delete-generations 30d`: what was current within that time
//! stays, so that one can go back to it, and so does what is current now. Root's collections do not look here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::paths::Paths;
use contract::places::USER;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

/// Removes them, or only says which these are; their links. What cannot be looked at is left as it is.
#[must_use]
pub fn prune(paths: &Paths, age: Duration, now: u64, dry_run: bool) -> Vec<PathBuf> {
    let cut = i64::try_from(now.saturating_sub(age.as_secs())).unwrap_or(i64::MAX);
    let mut gone = Vec::new();
    for dir in [paths.profiles(), paths.nix.join("var/nix/profiles/per-user").join(USER)] {
        for (name, generations) in profiles(&dir) {
            let profile = dir.join(name);
            match prune_one(&profile, &generations, cut, dry_run) {
                Ok(old) => gone.extend(old),
                Err(error) => {
                    tracing::warn!(%error, profile = %profile.display(), "old generations stay");
                }
            }
        }
    }
    gone
}

/// `PROFILE-N-link`, by profile; the numbers.
fn profiles(dir: &Path) -> BTreeMap<String, Vec<u64>> {
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    // Without the folder there are none.
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let parts = name.to_str().and_then(|name| name.strip_suffix("-link")?.rsplit_once('-'));
        if let Some((profile, number)) = parts
            && let Ok(number) = number.parse()
            && !profile.is_empty()
        {
            found.entry(profile.to_owned()).or_default().push(number);
        }
    }
    found
}

fn link(profile: &Path, number: u64) -> PathBuf {
    let name = profile.file_name().unwrap_or_default().to_string_lossy();
    profile.with_file_name(format!("{name}-{number}-link"))
}

fn prune_one(profile: &Path, generations: &[u64], cut: i64, dry_run: bool) -> io::Result<Vec<PathBuf>> {
    // Of a profile that is none (any more) nobody knows which one counts.
    let Ok(current) = fs::read_link(profile) else { return Ok(Vec::new()) };
    let Some(lock) = Lock::take(profile)? else { return Ok(Vec::new()) };
    let mut by_age = Vec::new();
    for number in generations {
        let link = link(profile, *number);
        let made = match fs::symlink_metadata(&link) {
            Ok(meta) if meta.is_symlink() => meta.mtime(),
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        by_age.push((*number, made, link));
    }
    by_age.sort_unstable();
    // The first of them was current when the time begins.
    let old: Vec<PathBuf> = by_age
        .into_iter()
        .rev()
        .skip_while(|(_, made, _)| *made >= cut)
        .skip(1)
        .filter(|(_, made, link)| *made < cut && link.file_name() != current.file_name())
        .map(|(_, _, link)| link)
        .collect();
    if !dry_run {
        old.iter().try_for_each(fs::remove_file)?;
    }
    lock.release()?;
    Ok(old)
}

/// As Nix locks a profile: the lock's file goes when it is given back, and whoever waited for it is told so by its content.
struct Lock {
    path: PathBuf,
    file: Flock<File>,
}

impl Lock {
    /// None where somebody changes the profile now.
    fn take(profile: &Path) -> io::Result<Option<Self>> {
        let mut path = profile.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC).bits())
            .open(&path)?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, error)) => return Err(error.into()),
        };
        let given_back = file.metadata()?.len() > 0;
        Ok((!given_back).then_some(Self { path, file }))
    }

    fn release(mut self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        self.file.write_all(b"d")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::fcntl::AT_FDCWD;
    use nix::sys::stat::{UtimensatFlags, utimensat};
    use nix::sys::time::TimeSpec;

    use super::*;

    const DAY: u64 = 24 * 3600;
    const NOW: u64 = 1_700_000_000;
    const MONTH: Duration = Duration::from_secs(30 * DAY);

    struct Scene {
        _dir: tempfile::TempDir,
        paths: Paths,
    }

    impl Scene {
        /// A profile whose generations were made so many days ago, the first of them first; the current one by its number.
        fn new(days: &[u64], current: usize) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::scratch(dir.path());
            fs::create_dir_all(paths.profiles()).unwrap();
            for (number, days) in (1..).zip(days) {
                let link = paths.profiles().join(format!("profile-{number}-link"));
                symlink("/nix/store/x", &link).unwrap();
                let made = TimeSpec::new(i64::try_from(NOW - days * DAY).unwrap(), 0);
                utimensat(AT_FDCWD, &link, &made, &made, UtimensatFlags::NoFollowSymlink).unwrap();
            }
            symlink(format!("profile-{current}-link"), paths.profiles().join("profile")).unwrap();
            Self { _dir: dir, paths }
        }

        fn pruned(&self, dry_run: bool) -> Vec<String> {
            let gone = prune(&self.paths, MONTH, NOW, dry_run);
            let mut names: Vec<_> =
                gone.iter().map(|link| link.file_name().unwrap().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }

        fn left(&self) -> usize {
            let entries = fs::read_dir(self.paths.profiles()).unwrap();
            entries
                .filter(|entry| entry.as_ref().unwrap().path().to_string_lossy().ends_with("-link"))
                .count()
        }
    }

    #[test]
    fn what_was_current_within_the_time_stays() {
        // The third was current when the month began.
        let scene = Scene::new(&[90, 60, 40, 20, 10], 5);
        assert_eq!(scene.pruned(true), ["profile-1-link", "profile-2-link"]);
        assert_eq!(scene.left(), 5);
        assert_eq!(scene.pruned(false), ["profile-1-link", "profile-2-link"]);
        assert_eq!((scene.left(), scene.pruned(false)), (3, vec![]));
        assert!(!scene.paths.profiles().join("profile.lock").exists());
    }

    #[test]
    fn what_is_current_stays_however_old_it_is() {
        // Somebody went back.
        assert_eq!(Scene::new(&[90, 80, 70, 10], 1).pruned(false), ["profile-2-link"]);
        assert_eq!(Scene::new(&[90], 1).pruned(false), [""; 0]);
        assert_eq!(Scene::new(&[90, 80], 2).pruned(false), ["profile-1-link"]);
        assert_eq!(Scene::new(&[20, 10], 2).pruned(false), [""; 0]);
        // A clock that was wrong once: nothing young goes.
        assert_eq!(Scene::new(&[5, 90, 80, 10], 4).pruned(false), ["profile-2-link"]);
        assert_eq!(prune(&Paths::scratch(Path::new("/nowhere")), MONTH, NOW, false), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_profile_that_is_being_changed_or_is_none_is_left_alone() {
        let scene = Scene::new(&[90, 60, 40], 3);
        let profile = scene.paths.profiles().join("profile");
        let lock = Lock::take(&profile).unwrap().unwrap();
        assert_eq!(scene.pruned(false), [""; 0]);
        lock.release().unwrap();
        fs::remove_file(&profile).unwrap();
        assert_eq!(scene.pruned(false), [""; 0]);
        symlink("profile-3-link", &profile).unwrap();
        assert_eq!(scene.pruned(false), ["profile-1-link", "profile-2-link"]);
    }
}
