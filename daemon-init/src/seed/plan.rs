//! What is missing on the volume, and whether it fits.

use std::collections::HashSet;

use super::error::StoreError;
use super::image::STORE_DIR;
use super::registration::{self, Entry};
use super::room::{self, Room};
use super::watch::Watch;
use super::{Image, Options, delete_leftovers, is_there, leftovers, register};
use crate::volume::Volume;

/// The paths to copy. None of them is valid, and nothing is in their places.
pub(super) struct Plan<'a> {
    /// In the registration's order.
    pub(super) missing: Vec<&'a Entry<'a>>,
    /// Their names below the store folder.
    pub(super) names: Vec<&'a str>,
    /// What they take.
    pub(super) room: Room,
    /// A collection made the room.
    pub(super) collected: bool,
}

/// The image's registration, checked against its manifest.
pub(super) fn entries<'a>(image: &Image, text: &'a str) -> Result<Vec<Entry<'a>>, StoreError> {
    let entries = registration::parse(text).ok_or_else(|| image.broken("it is cut off"))?;
    let listed = image.manifest().paths.iter().map(String::as_str);
    if !listed.eq(entries.iter().map(|e| e.path)) {
        return Err(image.broken("it does not name the paths of the manifest"));
    }
    let is_name = |name: &str| !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    match entries.iter().find(|e| !e.path.strip_prefix(STORE_DIR).is_some_and(is_name)) {
        Some(entry) => Err(image.broken(format!("{:?} is no store path", entry.path))),
        None => Ok(entries),
    }
}

/// Finds out what is missing, moves aside what lies in its place, and makes room if it must.
pub(super) fn make<'a>(
    volume: &Volume,
    image: &Image,
    entries: &'a [Entry<'a>],
    options: Options,
    watch: &Watch<'_>,
) -> Result<Plan<'a>, StoreError> {
    let mut plan = missing(volume, image, entries, options, watch)?;
    if fits(volume, image, &plan)?.is_none() {
        return Ok(plan);
    }
    if delete_leftovers(volume, watch.abort)? > 0 && fits(volume, image, &plan)?.is_none() {
        return Ok(plan);
    }
    if options.may_collect && register::has_database(volume) {
        tracing::info!("no room for the image's store; collecting garbage first");
        image.nix_store(volume.root())?.collect(volume.lock(), watch.abort)?;
        // It may have taken what was valid and is needed.
        plan = Plan { collected: true, ..missing(volume, image, entries, options, watch)? };
    }
    match fits(volume, image, &plan)? {
        None => Ok(plan),
        Some((needed, free)) => {
            Err(StoreError::NoRoom { path: volume.path().into(), needed, free, short: needed.beyond(free) })
        }
    }
}

fn missing<'a>(
    volume: &Volume,
    image: &Image,
    entries: &'a [Entry<'a>],
    options: Options,
    watch: &Watch<'_>,
) -> Result<Plan<'a>, StoreError> {
    let paths: Vec<&str> = entries.iter().map(|e| e.path).collect();
    let invalid: Option<HashSet<String>> = match register::has_database(volume) {
        true => Some(
            image
                .nix_store(volume.root())?
                .invalid(&paths, volume.lock(), watch.abort)?
                .into_iter()
                .collect(),
        ),
        false => None,
    };
    let (mut missing, mut names) = (Vec::new(), Vec::new());
    for entry in entries {
        let name = &entry.path[STORE_DIR.len()..];
        let place = volume.store_path(name);
        let is_valid = invalid.as_ref().is_some_and(|set| !set.contains(entry.path));
        let is_there = is_there(&place)?;
        if is_valid && is_there {
            continue;
        }
        if is_there {
            leftovers::set_aside(volume, &place)?;
        }
        missing.push(entry);
        names.push(name);
    }
    let manifest = image.manifest();
    let room = if missing.len() == entries.len() && manifest.disk_bytes > 0 {
        Room { bytes: manifest.disk_bytes, inodes: manifest.disk_inodes }
    } else {
        let sources = names.iter().map(|name| image.source(name)).collect();
        room::of_trees(sources, options.threads as usize, watch)?
    };
    Ok(Plan { missing, names, room, collected: false })
}

/// `None`: it fits. Else what is needed and what is free.
fn fits(volume: &Volume, image: &Image, plan: &Plan<'_>) -> Result<Option<(Room, Room)>, StoreError> {
    if plan.missing.is_empty() {
        return Ok(None);
    }
    let database = image.nix().join("var/nix/db/db.sqlite");
    let database = std::fs::metadata(database).map_or(0, |m| m.len());
    let needed = plan.room.with_margin(database, plan.missing.len() as u64);
    let free = Room::free(volume.dir(), volume.path())?;
    Ok((needed.beyond(free) != Room::default()).then_some((needed, free)))
}
