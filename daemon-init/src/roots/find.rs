//! Roots as Nix finds them: below its `gcroots` and `profiles`, and by way of `gcroots/auto` in the home.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Component, Path, PathBuf};

use agent::paths::Paths;
use contract::in_use::is_name;
use contract::roots::{Root, RootKind};

use super::beneath::{self, Link};
use super::{Error, IMAGES, IN_USE, NAMED, gcroots, io_error, named};

/// A root, and what is not told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// As it is told.
    pub(super) root: Root,
    /// Store paths that it names.
    pub(super) targets: Vec<String>,
    /// What leads to it in `gcroots/auto`.
    pub(super) entry: Option<PathBuf>,
}

/// The store path that a link into the store names.
pub(super) fn store_path(paths: &Paths, target: &Path) -> Option<String> {
    let store = paths.nix.join("store");
    let Some(Component::Normal(name)) = target.strip_prefix(&store).ok()?.components().next() else {
        return None;
    };
    let name = name.to_str().filter(|name| is_name(name))?;
    Some(store.join(name).to_string_lossy().into_owned())
}

/// All of them, by kind and name. What leads nowhere is left out: Nix takes it away itself.
///
/// # Errors
/// When a folder of Nix's own cannot be read.
pub(super) fn all(paths: &Paths, now: u64) -> Result<Vec<Found>, Error> {
    let mut look = Look { paths, now, found: Vec::new(), several: BTreeMap::new(), seen: BTreeSet::new() };
    for root in [paths.nix.join("var/nix/profiles"), gcroots(paths)] {
        let mut links = Vec::new();
        beneath::links(&root, &mut |path, link| links.push((path, link))).map_err(io_error("list", &root))?;
        for (path, link) in links {
            look.at(&path, &link);
        }
    }
    let Look { mut found, several, .. } = look;
    found.extend(several.into_values());
    found.sort_by(|a, b| (a.root.kind, &a.root.name).cmp(&(b.root.kind, &b.root.name)));
    Ok(found)
}

struct Look<'a> {
    paths: &'a Paths,
    /// Seconds since the epoch.
    now: u64,
    found: Vec<Found>,
    /// What is told as one.
    several: BTreeMap<PathBuf, Found>,
    /// Links that have been found: one in a profile's folder may be named in `gcroots/auto` as well.
    seen: BTreeSet<PathBuf>,
}

impl Look<'_> {
    /// A link in a folder of Nix's.
    fn at(&mut self, path: &Path, link: &Link) {
        let below = path.strip_prefix(gcroots(self.paths)).ok();
        let first = below.and_then(|below| below.components().next()).map(Component::as_os_str);
        let direct = store_path(self.paths, &link.target);
        match first.and_then(OsStr::to_str) {
            Some("auto") => self.indirect(link, Some(path)),
            Some(NAMED) => self.found.extend(named::found(self.paths, path, link, self.now)),
            Some(IMAGES) => self.together(RootKind::Image, path, direct),
            Some(IN_USE) => self.together(RootKind::InUse, path, direct),
            Some(_) if direct.is_some() => self.add(RootKind::Other, path, link.modified, direct, None),
            None if direct.is_some() && is_generation(path) => {
                self.add(RootKind::Generation, path, link.modified, direct, None);
            }
            None if direct.is_some() => self.add(RootKind::Other, path, link.modified, direct, None),
            Some(_) if link.target.starts_with(&self.paths.home) => self.indirect(link, None),
            // `default` beside its generations, and the folder of profiles among the roots.
            Some(_) | None => {}
        }
    }

    /// A link to somebody's link.
    fn indirect(&mut self, link: &Link, entry: Option<&Path>) {
        let theirs = &link.target;
        let entry = entry.map(Path::to_owned);
        let Ok(below) = theirs.strip_prefix(&self.paths.home) else {
            // Into a profile's folder, which was looked at; or somewhere that only Nix looks.
            if store_path(self.paths, theirs).is_none() && !self.seen.contains(theirs) {
                self.add(RootKind::Other, theirs, link.modified, None, entry);
            }
            return;
        };
        // What looks like a generation elsewhere, as that of a development shell, nobody else ever removes.
        let kind = if theirs.starts_with(self.paths.jobs()) {
            RootKind::Job
        } else if theirs.starts_with(self.paths.profiles()) && is_generation(theirs) {
            RootKind::Generation
        } else {
            RootKind::Link
        };
        match beneath::link(&self.paths.home, below) {
            Ok(Some(found)) => {
                if let Some(path) = store_path(self.paths, &found.target) {
                    self.add(kind, theirs, found.modified, Some(path), entry);
                }
            }
            Ok(None) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // By way of a link, which Nix follows.
            Err(_) => self.add(kind, theirs, link.modified, None, entry),
        }
    }

    fn add(&mut self, kind: RootKind, at: &Path, since: u64, path: Option<String>, entry: Option<PathBuf>) {
        if !self.seen.insert(at.to_owned()) {
            return;
        }
        let targets = path.iter().cloned().collect();
        let root = Root {
            kind,
            name: at.to_string_lossy().into_owned(),
            path,
            since: Some(since),
            expires: None,
            holds: None,
        };
        self.found.push(Found { root, targets, entry });
    }

    /// One of many in a folder.
    fn together(&mut self, kind: RootKind, path: &Path, target: Option<String>) {
        let folder = path.parent().unwrap_or(path);
        let found = self.several.entry(folder.to_owned()).or_insert_with(|| {
            let name = folder.to_string_lossy().into_owned();
            let root = Root { kind, name, path: None, since: None, expires: None, holds: None };
            Found { root, targets: Vec::new(), entry: None }
        });
        found.targets.extend(target);
    }
}

/// `PROFILE-N-link`.
pub(super) fn is_generation(path: &Path) -> bool {
    let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
    let number = name.strip_suffix("-link").and_then(|name| name.rsplit_once('-'));
    number.is_some_and(|(profile, number)| {
        !profile.is_empty() && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const NAMES: [&str; 2] = ["00000000000000000000000000000000-a", "11111111111111111111111111111111-b"];

    struct Scene {
        dir: tempfile::TempDir,
        paths: Paths,
    }

    impl Scene {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let paths = Paths::scratch(dir.path());
            Self { dir, paths }
        }

        fn target(&self, number: usize) -> PathBuf {
            self.paths.nix.join("store").join(NAMES[number])
        }

        fn link(&self, at: &Path, target: &Path) -> PathBuf {
            fs::create_dir_all(at.parent().unwrap()).unwrap();
            symlink(target, at).unwrap();
            at.to_owned()
        }

        fn root(&self, at: &str, target: &Path) -> PathBuf {
            self.link(&gcroots(&self.paths).join(at), target)
        }

        /// A link of somebody's in the home, and Nix's to it.
        fn auto(&self, at: &Path, target: &Path) -> PathBuf {
            let theirs = self.link(at, target);
            let entries = fs::read_dir(gcroots(&self.paths).join("auto")).map_or(0, Iterator::count);
            self.root(&format!("auto/{entries}"), &theirs)
        }

        fn found(&self) -> Vec<(RootKind, String, Vec<String>)> {
            let all = all(&self.paths, 0).unwrap().into_iter();
            all.map(|found| (found.root.kind, found.root.name, found.targets)).collect()
        }
    }

    #[test]
    fn roots_are_told_apart() {
        let scene = Scene::new();
        let (paths, [a, b]) = (&scene.paths, [0, 1].map(|n| scene.target(n)));
        assert!(scene.found().is_empty());
        scene.root("trampoline/image/0", &a);
        scene.root("trampoline/image/1", &b);
        scene.root("trampoline-in-use/1", &b);
        scene.root("mine", &b.join("bin/x"));
        let job = paths.jobs().join("1-1/result");
        scene.auto(&job, &a);
        let result = paths.home.join("src/result");
        scene.auto(&result, &b);
        let profile = paths.home.join(".local/state/nix/profiles/profile-3-link");
        scene.auto(&profile, &b);
        let default = paths.nix.join("var/nix/profiles/default-1-link");
        scene.link(&default, &a);
        scene.link(&default.with_file_name("default"), Path::new("default-1-link"));
        scene.root("auto/default", &default);
        scene.root("profiles", &paths.nix.join("var/nix/profiles"));

        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        let gcroot = |name: &str| path(&gcroots(paths).join(name));
        let [a, b] = [a, b].map(|target| path(&target));
        let mut found = scene.found();
        found.iter_mut().for_each(|(_, _, targets)| targets.sort());
        let mut expected = [
            (RootKind::Job, path(&job), vec![a.clone()]),
            (RootKind::Generation, path(&profile), vec![b.clone()]),
            (RootKind::Generation, path(&default), vec![a.clone()]),
            (RootKind::Link, path(&result), vec![b.clone()]),
            (RootKind::Image, gcroot("trampoline/image"), vec![a, b.clone()]),
            (RootKind::InUse, gcroot("trampoline-in-use"), vec![b.clone()]),
            (RootKind::Other, gcroot("mine"), vec![b]),
        ];
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn what_leads_nowhere_is_left_out_and_no_link_of_a_users_is_followed() {
        let scene = Scene::new();
        let home = &scene.paths.home;
        scene.root("auto/gone", &home.join("gone"));
        scene.auto(&home.join("elsewhere"), Path::new("/etc/passwd"));
        assert!(scene.found().is_empty());
        // A secret of root's, of which the user wants to know where it leads.
        let secret = scene.dir.path().join("secret");
        fs::create_dir_all(&secret).unwrap();
        symlink(scene.target(0), secret.join("result")).unwrap();
        scene.link(&home.join("through"), &secret);
        scene.root("auto/through", &home.join("through/result"));
        let found = scene.found();
        assert_eq!(found.len(), 1);
        assert!(found[0].2.is_empty(), "{found:?}");
    }
}
