//! What becomes of damaged paths: those of the image are made anew from it, in place; others are removed, with all that refers to
//! them, so that they are fetched or built again when somebody asks for them.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use contract::damage::{Damaged, Fate, Found};

use super::error::{Context, StoreError};
use super::image::STORE_DIR;
use super::registration::Entry;
use super::verify::{Wrong, place, wrong_with};
use super::watch::Watch;
use super::{Image, copy, leftovers};
use crate::volume::Volume;

/// As few as cannot fill a queue.
const THREADS: usize = 4;

/// Does it, durably; what is given back names each path.
pub(super) fn mend(
    volume: &mut Volume,
    image: &Image,
    entries: &[Entry<'_>],
    wrong: &[Wrong<'_>],
    watch: &Watch<'_>,
) -> Result<Vec<Damaged>, StoreError> {
    if wrong.is_empty() {
        return Ok(Vec::new());
    }
    let images: HashSet<&str> = image.manifest().paths.iter().map(String::as_str).collect();
    let (of_image, others): (Vec<_>, Vec<_>) =
        wrong.iter().partition(|(entry, _)| images.contains(entry.path));
    let mut fates: HashMap<&str, Fate> = HashMap::new();
    if !of_image.is_empty() && !is_covered(volume, image)? {
        for (entry, _) in &of_image {
            restore(volume, image, entry, watch)?;
            fates.insert(entry.path, Fate::Restored);
        }
    } else if !of_image.is_empty() {
        // The next seeding brings it, which begins where nothing covers the image.
        volume.forget_image()?;
        fates.extend(of_image.iter().map(|(entry, _)| (entry.path, Fate::AtNextStart)));
    }
    if !others.is_empty() {
        let paths = with_referrers(entries, others.iter().map(|(entry, _)| entry.path));
        if let Some(path) = paths.iter().find(|path| images.contains(**path)) {
            return Err(image.broken(format!("{path} refers to what is not the image's")));
        }
        set_aside(&volume.mark_dir(), volume.path(), &paths)?;
        image.nix_store(volume.root())?.forget_missing(Some(volume.lock()), watch.abort)?;
    }
    watch.durability.filesystem(volume.dir()).context("make durable", volume.path())?;
    let at = agent::unix_now();
    let damaged = wrong.iter().map(|(entry, what)| Damaged {
        path: entry.path.to_owned(),
        at,
        found: Found::Start,
        what: what.clone(),
        fate: fates.get(entry.path).copied().unwrap_or(Fate::Removed),
    });
    Ok(damaged.collect())
}

/// Whether the volume lies over the image's own store.
fn is_covered(volume: &Volume, image: &Image) -> Result<bool, StoreError> {
    let id = |path: &Path| {
        let meta = fs::metadata(path).context("look at", path)?;
        Ok((meta.dev(), meta.ino()))
    };
    Ok(id(&volume.path().join("store"))? == id(&image.nix().join("store"))?)
}

/// Makes a path anew from the image. It stays valid: its content is what was registered.
fn restore(volume: &Volume, image: &Image, entry: &Entry<'_>, watch: &Watch<'_>) -> Result<(), StoreError> {
    let name = entry.path.strip_prefix(STORE_DIR).unwrap_or_default();
    leftovers::set_staging_aside(volume)?;
    let staging = leftovers::make_staging(volume)?;
    let (made, place) = (staging.join(name), place(volume, entry));
    copy::copy(vec![(image.source(name), made.clone())], entry.size, THREADS, volume.dir(), watch)?;
    if wrong_with(&made, entry, &mut |_| watch.abort.check())?.is_some() {
        return Err(image.broken(format!("{} is not what it says", entry.path)));
    }
    watch.durability.filesystem(volume.dir()).context("make durable what was copied to", volume.path())?;
    set_aside(&volume.mark_dir(), volume.path(), &[entry.path])?;
    copy::place(&made, &place)?;
    leftovers::remove_staging(&staging)
}

/// Takes store paths out of the store in one step each; one that is not there is as good. Says where they are now.
pub(crate) fn set_aside(mark_dir: &Path, volume: &Path, paths: &[&str]) -> Result<Vec<PathBuf>, StoreError> {
    let mut aside = Vec::new();
    for path in paths {
        let place = volume.join("store").join(path.strip_prefix(STORE_DIR).unwrap_or_default());
        match leftovers::move_aside(mark_dir, &place) {
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {}
            moved => aside.extend(moved?),
        }
    }
    Ok(aside)
}

/// The paths and all that refer to them, whoever refers before what is referred to.
pub(crate) fn with_referrers<'a>(
    entries: &[Entry<'a>],
    paths: impl Iterator<Item = &'a str>,
) -> Vec<&'a str> {
    let mut referrers: HashMap<&str, Vec<&'a str>> = HashMap::new();
    for entry in entries {
        for reference in entry.references().filter(|reference| *reference != entry.path) {
            referrers.entry(reference).or_default().push(entry.path);
        }
    }
    let (mut seen, mut order) = (HashSet::new(), Vec::new());
    // Depth first, without recursion: a path is put down when all that refer to it have been.
    let mut stack: Vec<(&'a str, bool)> = paths.map(|path| (path, false)).collect();
    while let Some((path, is_done)) = stack.pop() {
        if is_done {
            order.push(path);
        } else if seen.insert(path) {
            stack.push((path, true));
            stack.extend(referrers.get(path).into_iter().flatten().map(|path| (*path, false)));
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::super::registration::parse;
    use super::*;

    #[test]
    fn who_refers_goes_first() {
        let path = |name: &str, references: &[&str]| {
            let lines: String = references.iter().map(|r| format!("/nix/store/{r}\n")).collect();
            format!("/nix/store/{name}\nabc\n1\n\n{}\n{lines}", references.len())
        };
        // A diamond above what is damaged, a circle of one, and a stranger.
        let text = [
            path("lib", &["lib"]),
            path("left", &["lib"]),
            path("right", &["lib"]),
            path("top", &["right", "left"]),
            path("other", &[]),
        ];
        let text = text.concat();
        let entries = parse(&text).unwrap();
        let order = with_referrers(&entries, ["/nix/store/lib", "/nix/store/left"].into_iter());
        let at = |name: &str| order.iter().position(|path| path.ends_with(name)).unwrap();
        assert_eq!(order.len(), 4);
        assert!(at("top") < at("left") && at("top") < at("right") && at("left") < at("lib"));
        assert!(at("right") < at("lib"));
    }
}
