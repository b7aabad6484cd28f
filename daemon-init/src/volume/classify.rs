//! What a volume holds, found out without changing it and without following a link in it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::image::{ImageManifest, Mark};
use contract::places;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::mark::{FORMAT, MARK_FILE};
use super::version;
use crate::seed::error::{Context, StoreError};

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing but what mkfs and a start that ended before the mark leave.
    Fresh,
    /// A store with our mark.
    Ours(Mark),
    /// A copied `/nix`.
    Legacy,
}

/// Refuses what is neither empty nor a store that the image may use.
pub(super) fn classify(dir: &File, path: &Path, image: &ImageManifest) -> Result<Found, StoreError> {
    let foreign = |found: String| StoreError::NotOurs { path: path.into(), found };
    if let Some(mark_dir) = open_folder(dir, path, places::MARK_DIR)? {
        let owner = mark_dir.metadata().context("look at", path)?.uid();
        if owner != 0 {
            return Err(foreign(format!("its {} belongs to user {owner}", places::MARK_DIR)));
        }
        if let Some(mark) = read_mark(&mark_dir, &path.join(places::MARK_DIR).join(MARK_FILE))? {
            if version::compare(&mark.nix_version, &image.nix_version).is_gt() {
                return Err(StoreError::StoreNewer {
                    path: path.into(),
                    store: mark.nix_version,
                    image: image.nix_version.clone(),
                });
            }
            // Links in their place would lead our writes elsewhere.
            open_folder(dir, path, "store")?;
            check_schema(dir, path, image)?;
            return Ok(Found::Ours(mark));
        }
    }
    let mut others: Vec<_> = std::fs::read_dir(path)
        .context("list", path)?
        .map(|entry| entry.map(|e| e.file_name()).context("list", path))
        .collect::<Result<_, _>>()?;
    others.retain(|name| name != OsStr::new("lost+found") && name != OsStr::new(places::MARK_DIR));
    others.sort();
    let Some(first) = others.first() else { return Ok(Found::Fresh) };
    let store = open_folder(dir, path, "store")?;
    let database = check_schema(dir, path, image)?;
    if store.is_some() && database {
        return Ok(Found::Legacy);
    }
    Err(foreign(format!("it holds {}", Path::new(first).display())))
}

fn read_mark(mark_dir: &File, path: &Path) -> Result<Option<Mark>, StoreError> {
    let Some(text) = read_file(mark_dir, MARK_FILE, path)? else { return Ok(None) };
    let mark: Mark = serde_json::from_str(&text).map_err(|e| StoreError::NotOurs {
        path: path.into(),
        found: format!("its mark is not readable: {e}"),
    })?;
    if mark.format > FORMAT {
        return Err(StoreError::MarkNewer { path: path.into(), format: mark.format });
    }
    Ok(Some(mark))
}

/// Whether there is a database; refuses one that a newer Nix has laid out.
fn check_schema(dir: &File, path: &Path, image: &ImageManifest) -> Result<bool, StoreError> {
    let mut below = dir.try_clone().context("open", path)?;
    let mut at = path.to_path_buf();
    for name in ["var", "nix", "db"] {
        let Some(next) = open_folder(&below, &at, name)? else { return Ok(false) };
        below = next;
        at.push(name);
    }
    let schema = read_file(&below, "schema", &at.join("schema"))?;
    if let Some(schema) = schema.as_deref().map(str::trim).filter(|s| !s.is_empty()) {
        let schema: u32 = schema.parse().map_err(|_| StoreError::NotOurs {
            path: at.join("schema"),
            found: format!("{schema:?} is no schema of a Nix database"),
        })?;
        if schema > image.schema {
            return Err(StoreError::SchemaNewer {
                path: path.into(),
                store: schema,
                image: image.schema,
                nix: image.nix_version.clone(),
            });
        }
    }
    Ok(schema.is_some() && open_below(&below, "db.sqlite", OFlag::empty(), &at)?.is_some())
}

/// `None`: absent. A link, or anything else but a folder, is not ours.
pub(super) fn open_folder(dir: &File, path: &Path, name: &str) -> Result<Option<File>, StoreError> {
    open_below(dir, name, OFlag::O_DIRECTORY, path)
}

fn read_file(dir: &File, name: &str, path: &Path) -> Result<Option<String>, StoreError> {
    let parent = path.parent().map(PathBuf::from).unwrap_or_default();
    // Not a pipe or a device of somebody's, at which reading would hang.
    let Some(file) = open_below(dir, name, OFlag::O_NONBLOCK, &parent)? else { return Ok(None) };
    let mut text = String::new();
    // A mark or a schema has a few hundred bytes.
    file.take(1 << 20).read_to_string(&mut text).context("read", path)?;
    Ok(Some(text))
}

fn open_below(dir: impl AsFd, name: &str, flags: OFlag, parent: &Path) -> Result<Option<File>, StoreError> {
    let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match openat(dir, name, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(File::from(fd))),
        Err(Errno::ENOENT) => Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => Err(StoreError::NotOurs {
            path: parent.into(),
            found: format!("its {name} is a link, or not what it should be"),
        }),
        Err(error) => Err(StoreError::io("open", &parent.join(name), error.into())),
    }
}
