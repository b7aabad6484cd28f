//! Old trees go when nothing is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::Project;
use crate::error::{Result, io_error};

/// Removes all but the newest `keep` trees, `current`, the `pinned` ones and those in which a process stands. Returns what went.
///
/// A tree is moved aside first and looked at again: who entered it between the two looks gets it back.
///
/// # Errors
/// When a folder cannot be read or removed.
pub fn prune(project: &Project, keep: u32, pinned: &BTreeSet<u64>, proc: &Path) -> Result<Vec<u64>> {
    let _lock = project.lock("prune.lock", || {})?;
    let numbers = project.numbers()?;
    let keep = usize::try_from(keep.max(1)).unwrap_or(usize::MAX);
    let mut gone = Vec::new();
    for generation in numbers.iter().copied().take(numbers.len().saturating_sub(keep)) {
        let tree = project.tree(generation);
        if pinned.contains(&generation) || project.current() == Some(generation) || in_use(proc, &tree) {
            continue;
        }
        let aside = project.dir.join(format!(".old-{generation:06}"));
        fs::rename(&tree, &aside).map_err(io_error("move", &tree))?;
        if in_use(proc, &aside) {
            fs::rename(&aside, &tree).map_err(io_error("move back", &tree))?;
            continue;
        }
        fs::remove_dir_all(&aside).map_err(io_error("remove", &aside))?;
        agent::files::withdraw(&project.meta_dir().join(format!("{generation:06}.json")))?;
        agent::files::withdraw(&project.manifest_file(generation))?;
        gone.push(generation);
    }
    leftovers(project)?;
    Ok(gone)
}

/// What a prune that was killed left.
fn leftovers(project: &Project) -> Result<()> {
    for name in super::names(&project.dir)?.iter().filter(|n| n.starts_with(".old-")) {
        let path = project.dir.join(name);
        fs::remove_dir_all(&path).map_err(io_error("remove", &path))?;
    }
    Ok(())
}

/// Whether a process of ours stands in `tree`. The kernel follows renames: the answer is by the tree's present name.
fn in_use(proc: &Path, tree: &Path) -> bool {
    let tree: PathBuf = tree.canonicalize().unwrap_or_else(|_| tree.to_owned());
    let Ok(entries) = fs::read_dir(proc) else { return true };
    entries.flatten().any(|entry| {
        // Another id's folder cannot be read, and nobody else stands in our home.
        fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&tree))
    })
}
