//! `result` links that somebody made long ago and forgot. What keeps their store paths is Nix's entry in `gcroots/auto`, root's; the
//! link itself is left to whom it belongs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use agent::paths::Paths;
use contract::roots::{Root, RootKind};

use super::find::Found;
use super::{Error, beneath, find, io_error};

/// Where an entry stands aside while its link is looked at once more. Still a root: Nix takes any name here.
const ASIDE: &str = "trampoline-aside-";

/// Those that are older than `age`, oldest first.
///
/// # Errors
/// As [`super::list`].
pub(super) fn find(paths: &Paths, age: Duration, now: u64) -> Result<Vec<Found>, Error> {
    let mut found = find::all(paths, now)?;
    let latest = now.saturating_sub(age.as_secs());
    // Only of those that were looked at: for others Nix's own entry says when it was made, and its link may be newer.
    found.retain(|found| {
        let root = &found.root;
        root.kind == RootKind::Link
            && found.entry.is_some()
            && root.path.is_some()
            && root.since.is_some_and(|since| since <= latest)
    });
    found.sort_by_key(|found| found.root.since);
    Ok(found)
}

/// Has Nix forget them; what became of them.
///
/// # Errors
/// As [`find`], or when an entry of Nix's cannot be removed.
pub(super) fn forget(paths: &Paths, age: Duration, now: u64) -> Result<Vec<Root>, Error> {
    let mut forgotten = Vec::new();
    for found in find(paths, age, now)? {
        let Some(entry) = &found.entry else { continue };
        if forget_one(paths, entry, &found.root)? {
            forgotten.push(found.root);
        }
    }
    Ok(forgotten)
}

/// Somebody may build anew at this moment: Nix replaces the link first, and then its entry. So the entry is moved aside, from where it
/// still holds; a link that was replaced before is seen now, and one that is replaced from now on gets a new entry.
fn forget_one(paths: &Paths, entry: &Path, root: &Root) -> Result<bool, Error> {
    let aside = aside(entry);
    match fs::rename(entry, &aside) {
        // Nix has seen that there is no link.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        renamed => renamed.map_err(io_error("move", entry))?,
    }
    let below = Path::new(&root.name).strip_prefix(&paths.home).ok();
    let same = match below.map(|below| beneath::link(&paths.home, below)) {
        Some(Ok(Some(link))) => Some(link.modified) == root.since,
        // It is gone, or another thing; Nix forgets it as well.
        Some(Ok(None)) => true,
        Some(Err(error)) => error.kind() == io::ErrorKind::NotFound,
        None => false,
    };
    if same {
        fs::remove_file(&aside).map_err(io_error("remove", &aside))?;
        return Ok(true);
    }
    if aside == entry {
        return Ok(false);
    }
    match fs::hard_link(&aside, entry) {
        // A new one, that holds it.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        linked => linked.map_err(io_error("make", entry))?,
    }
    fs::remove_file(&aside).map_err(io_error("remove", &aside))?;
    Ok(false)
}

/// A killed one's stays where it is.
fn aside(entry: &Path) -> PathBuf {
    let name = entry.file_name().unwrap_or_default();
    if name.as_encoded_bytes().starts_with(ASIDE.as_bytes()) {
        return entry.to_owned();
    }
    let mut aside = OsString::from(ASIDE);
    aside.push(name);
    entry.with_file_name(aside)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::roots::gcroots;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    /// A link in the home, Nix's entry for it, and a time at which it is forgotten.
    struct Scene {
        _dir: tempfile::TempDir,
        paths: Paths,
        link: PathBuf,
        entry: PathBuf,
        later: u64,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::scratch(dir.path());
            let (link, auto) = (paths.home.join("result"), gcroots(&paths).join("auto"));
            fs::create_dir_all(&paths.home).unwrap();
            fs::create_dir_all(&auto).unwrap();
            let scene = Self {
                link,
                entry: auto.join("entry"),
                later: agent::unix_now() + 31 * 24 * 3600,
                paths,
                _dir: dir,
            };
            scene.build();
            scene
        }

        /// As Nix does it.
        fn build(&self) {
            let store = self.paths.nix.join("store/00000000000000000000000000000000-x");
            for (target, link) in [(&store, &self.link), (&self.link, &self.entry)] {
                let _ = fs::remove_file(link);
                symlink(target, link).unwrap();
            }
        }

        fn found(&self) -> Vec<Found> {
            find(&self.paths, 30 * DAY, self.later).unwrap()
        }

        fn entries(&self) -> Vec<PathBuf> {
            let entries = fs::read_dir(self.entry.parent().unwrap()).unwrap();
            entries.map(|entry| entry.unwrap().path()).collect()
        }
    }

    #[test]
    fn what_was_built_anew_after_it_was_found_to_be_old_is_kept() {
        let scene = Scene::new();
        let mut found = scene.found().pop().unwrap();
        // It was older than what is there now.
        found.root.since = found.root.since.map(|since| since - 1);
        assert!(!forget_one(&scene.paths, &scene.entry, &found.root).unwrap());
        assert_eq!(scene.entries(), std::slice::from_ref(&scene.entry));

        let found = scene.found().pop().unwrap();
        assert!(forget_one(&scene.paths, &scene.entry, &found.root).unwrap());
        assert!(scene.entries().is_empty() && fs::symlink_metadata(&scene.link).is_ok());
        // Once more: somebody else was faster.
        assert!(!forget_one(&scene.paths, &scene.entry, &found.root).unwrap());
    }

    #[test]
    fn what_a_killed_one_has_moved_aside_is_a_root_until_it_is_forgotten() {
        let scene = Scene::new();
        fs::rename(&scene.entry, aside(&scene.entry)).unwrap();
        let mut found = scene.found().pop().unwrap();
        let entry = found.entry.clone().unwrap();
        assert_eq!(entry, aside(&entry), "no name grows");
        found.root.since = found.root.since.map(|since| since - 1);
        assert!(!forget_one(&scene.paths, &entry, &found.root).unwrap());
        assert_eq!(scene.entries(), [entry]);
        assert_eq!(forget(&scene.paths, 30 * DAY, scene.later).unwrap().len(), 1);
        assert!(scene.entries().is_empty());
    }
}
