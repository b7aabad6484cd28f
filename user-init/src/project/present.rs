//! What the trees that are there hold: nothing of it needs to be sent again.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use contract::tree::{self, Entry, Kind, MTIME};

use super::{Meta, Project, links};
use crate::error::Result;

/// The manifest of a tree, if it has one that can be read.
fn manifest(project: &Project, generation: u64) -> Option<Vec<Entry>> {
    tree::parse(&fs::read(project.manifest_file(generation)).ok()?).ok()
}

/// A tree of that content, safely there and as it was pushed.
pub(super) fn find(project: &Project, sha256: &str, boot: &str, entries: &[Entry]) -> Result<Option<u64>> {
    for generation in project.numbers()?.into_iter().rev() {
        let Some(meta) = project.meta(generation)? else { continue };
        if meta.sha256 == sha256 && meta.boot == boot && untouched(project, generation, &meta, entries) {
            return Ok(Some(generation));
        }
    }
    Ok(None)
}

/// Whether nobody has changed anything in a tree, but for the links to results. What was written, made or removed after the
/// tree was sealed has a later time of change, whatever else its times say; what a clock that was set back would hide has
/// another time of modification.
fn untouched(project: &Project, generation: u64, meta: &Meta, entries: &[Entry]) -> bool {
    let Some(sealed) = meta.sealed else { return false };
    let root = project.tree(generation);
    let same = |path: &[u8], is: fn(&Metadata) -> bool| {
        root.join(OsStr::from_bytes(path)).symlink_metadata().is_ok_and(|meta| {
            is(&meta) && meta.mtime() == MTIME && (meta.ctime(), meta.ctime_nsec()) <= sealed
        })
    };
    let folders: BTreeSet<&[u8]> = entries.iter().flat_map(|entry| tree::folders(&entry.path)).collect();
    folders.iter().all(|folder| same(folder, Metadata::is_dir))
        && entries.iter().all(|entry| match entry.kind {
            Kind::File { .. } => same(&entry.path, Metadata::is_file),
            Kind::Link { .. } => same(&entry.path, Metadata::is_symlink),
            Kind::Folder => same(&entry.path, Metadata::is_dir),
        })
        && nothing_more(project, generation, meta, entries)
}

/// The root's own time changes with the links to results: its names are looked at instead.
fn nothing_more(project: &Project, generation: u64, meta: &Meta, entries: &[Entry]) -> bool {
    let root = project.tree(generation);
    let tops: BTreeSet<&[u8]> = entries.iter().filter_map(|entry| top(&entry.path)).collect();
    let Ok(names) = fs::read_dir(&root) else { return false };
    names.flatten().all(|name| {
        let name = name.file_name();
        tops.contains(name.as_bytes())
            || name.to_str().is_some_and(|name| links::is_ours(&root, name, Some(meta)))
    })
}

/// The name at the root.
pub(super) fn top(path: &[u8]) -> Option<&[u8]> {
    path.split(|b| *b == b'/').next()
}

/// Where content may be found: the newest tree in which a file with that id was.
pub(super) fn contents(project: &Project) -> Result<HashMap<String, (PathBuf, Vec<u8>)>> {
    let mut found = HashMap::new();
    for generation in project.numbers()?.into_iter().rev() {
        for Entry { path, kind } in manifest(project, generation).unwrap_or_default() {
            if let Kind::File { id, .. } = kind {
                found.entry(id).or_insert_with(|| (project.tree(generation), path));
            }
        }
    }
    Ok(found)
}
