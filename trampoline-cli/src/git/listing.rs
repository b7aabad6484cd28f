//! What git says of a tree: entries, attributes, and which files of the working tree are as in it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use contract::exit::Exit;
use contract::tree::{self, Entry, Kind};

use super::attributes::{Attributes, all_cooked};
use super::cooked::Cooked;
use super::tree::{Origin, Tree};
use super::{Repo, Source, copy_index, objects, output};
use crate::context::scratch_dir;
use crate::error::{CliError, OnPath, Result, While};

/// A line of `git ls-tree`.
struct Listed {
    mode: Vec<u8>,
    id: String,
    path: Vec<u8>,
}

impl Tree {
    /// As `git archive` would hold it. Blocks.
    pub(crate) fn of(repo: &Repo, source: &Source) -> Result<Self> {
        let scratch = scratch_dir("trampoline-")?;
        let index = scratch.path().join("index");
        let (listed, all, ready) = std::thread::scope(|scope| {
            let ready = scope.spawn(|| make_index(repo, source, &index));
            let all = scope.spawn(|| all_cooked(repo));
            (list(repo, source), all.join().unwrap_or(true), ready.join())
        });
        ready.map_err(|_| CliError::new(Exit::Internal, "making an index panicked"))??;
        // The last of a name counts.
        let mut env = source.env.clone();
        env.push(("GIT_INDEX_FILE".into(), index.into_os_string()));
        let listed = listed?;
        let paths = asked_paths(&listed);
        let (attributes, changed) = std::thread::scope(|scope| {
            let changed = scope.spawn(|| changed(repo, &env));
            (Attributes::of(repo, &env, &paths), changed.join())
        });
        let changed = changed.map_err(|_| CliError::new(Exit::Internal, "asking git panicked"))??;
        Builder { repo, source, all, attributes: attributes?, changed }.build(listed)
    }
}

/// An index of the tree that knows which files of the working tree are as in it: the user's, moved to that tree.
fn make_index(repo: &Repo, source: &Source, ours: &Path) -> Result<()> {
    let theirs =
        source.env.iter().find(|(key, _)| key == "GIT_INDEX_FILE").map(|(_, path)| PathBuf::from(path));
    let theirs = match theirs {
        Some(path) => path,
        None => repo.git_path("index")?,
    };
    let move_it = || {
        let args = ["-c", "core.fsmonitor=false", "-c", "core.splitIndex=false", "read-tree", "--reset"];
        let mut command = repo.git(args);
        output(command.arg(&source.tree).envs(source.env.iter().cloned()).env("GIT_INDEX_FILE", ours))
    };
    if theirs.exists() {
        copy_index(&theirs, ours)?;
        if move_it().is_ok() {
            return Ok(());
        }
        // One that cannot be read says nothing of the tree; without it all comes from the objects.
        std::fs::remove_file(ours).on("cannot remove", ours)?;
    }
    move_it().map(drop)
}

fn list(repo: &Repo, source: &Source) -> Result<Vec<Listed>> {
    let args = ["ls-tree", "-r", "-z", "--full-tree", &source.tree];
    let lines = output(repo.git(args).envs(source.env.iter().cloned()))?;
    let entries = lines.split(|byte| *byte == 0).filter(|entry| !entry.is_empty());
    entries
        .map(|entry| {
            let mut fields = entry.splitn(2, |byte| *byte == b'\t');
            let (what, path) = (fields.next().unwrap_or_default(), fields.next());
            let mut words = what.split(|byte| *byte == b' ');
            match (words.next(), words.nth(1), path) {
                (Some(mode), Some(id), Some(path)) => Ok(Listed {
                    mode: mode.to_vec(),
                    id: String::from_utf8_lossy(id).into_owned(),
                    path: path.to_vec(),
                }),
                _ => Err(CliError::new(Exit::Io, "`git ls-tree` wrote a line that cannot be read")),
            }
        })
        .collect()
}

impl Listed {
    fn is_submodule(&self) -> bool {
        self.mode == b"160000"
    }

    /// As attributes name it.
    fn name(&self) -> Vec<u8> {
        if self.is_submodule() { folder(&self.path) } else { self.path.clone() }
    }
}

fn folder(path: &[u8]) -> Vec<u8> {
    [path, b"/"].concat()
}

/// Everything that may have attributes, folders too.
fn asked_paths(listed: &[Listed]) -> BTreeSet<Vec<u8>> {
    let folders = listed.iter().flat_map(|entry| tree::folders(&entry.path)).map(folder);
    listed.iter().map(Listed::name).chain(folders).collect()
}

/// Files of the working tree that git takes for changed.
fn changed(repo: &Repo, env: &[(OsString, OsString)]) -> Result<HashSet<Vec<u8>>> {
    let args = ["-c", "core.fsmonitor=false", "diff-files", "-z", "--name-only", "--ignore-submodules"];
    let names = output(repo.git(args).envs(env.iter().cloned()))?;
    Ok(names.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect())
}

/// What git says of a tree, on its way to become one of ours.
struct Builder<'a> {
    repo: &'a Repo,
    source: &'a Source,
    /// No blob is what the archive holds.
    all: bool,
    attributes: Attributes,
    changed: HashSet<Vec<u8>>,
}

impl Builder<'_> {
    fn build(self, listed: Vec<Listed>) -> Result<Tree> {
        let ignored = |path: &[u8]| {
            tree::folders(path).any(|folder_path| self.attributes.ignored.contains(&folder(folder_path)))
        };
        // In an archive, a folder stands before the first that is in it, even if that is left out.
        let (mut kept, mut folders) = (Vec::new(), BTreeSet::new());
        for entry in listed {
            if ignored(&entry.path) {
                continue;
            }
            folders.extend(tree::folders(&entry.path).map(<[u8]>::to_vec));
            if !self.attributes.ignored.contains(&entry.name()) {
                kept.push(entry);
            }
        }
        let cooked = self.cook(&kept)?;
        let targets = self.targets(&kept)?;
        let mut targets = targets.into_iter();
        let mut found: BTreeMap<Vec<u8>, (Kind, Origin)> = BTreeMap::new();
        let mut submodules = Vec::new();
        for entry in kept {
            for path in tree::folders(&entry.path) {
                folders.remove(path);
            }
            let executable = entry.mode == b"100755";
            let cooked = cooked.as_ref().and_then(|cooked| cooked.parts.get(&entry.path));
            let what = match entry.mode.as_slice() {
                b"160000" => {
                    submodules.push(String::from_utf8_lossy(&entry.path).into_owned());
                    (Kind::Folder, Origin::Nowhere)
                }
                b"120000" => (Kind::Link { target: targets.next().unwrap_or_default() }, Origin::Nowhere),
                _ => match cooked {
                    Some(part) => {
                        (Kind::File { executable, id: part.id.clone() }, Origin::Cooked(part.clone()))
                    }
                    None => {
                        let checked_out = !self.changed.contains(&entry.path);
                        (Kind::File { executable, id: entry.id }, Origin::Blob { checked_out })
                    }
                },
            };
            found.insert(entry.path, what);
        }
        // Those that hold other empty ones are made for them.
        let empty: Vec<_> =
            folders.iter().filter(|path| !folders.iter().any(|other| is_below(other, path))).collect();
        found.extend(empty.into_iter().map(|path| (path.clone(), (Kind::Folder, Origin::Nowhere))));
        let (entries, origins) =
            found.into_iter().map(|(path, (kind, origin))| (Entry { path, kind }, origin)).unzip();
        let (repo, env) = (self.repo.clone(), self.source.env.clone());
        Ok(Tree { repo, env, entries, origins, cooked, submodules })
    }

    fn cook(&self, kept: &[Listed]) -> Result<Option<Cooked>> {
        let files = kept.iter().filter(|entry| entry.mode.starts_with(b"100"));
        let wanted: HashSet<&[u8]> = files
            .map(|entry| entry.path.as_slice())
            .filter(|path| self.all || self.attributes.cooked.contains(*path))
            .collect();
        if wanted.is_empty() {
            return Ok(None);
        }
        Cooked::of(self.repo, self.source, &wanted).map(Some)
    }

    /// Where the links lead, in their order.
    fn targets(&self, kept: &[Listed]) -> Result<Vec<Vec<u8>>> {
        let ids: Vec<&str> =
            kept.iter().filter(|entry| entry.mode == b"120000").map(|entry| entry.id.as_str()).collect();
        let mut targets = Vec::with_capacity(ids.len());
        if !ids.is_empty() {
            objects::read(self.repo, &self.source.env, &ids, |_, _, content| {
                let mut target = Vec::new();
                content.read_to_end(&mut target).during("cannot read from git")?;
                targets.push(target);
                Ok::<_, CliError>(())
            })?;
        }
        Ok(targets)
    }
}

fn is_below(path: &[u8], folder: &[u8]) -> bool {
    path.strip_prefix(folder).is_some_and(|rest| rest.starts_with(b"/"))
}
