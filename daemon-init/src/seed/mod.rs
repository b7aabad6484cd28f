//! Brings the image's store paths onto the store volume.
//!
//! A state machine on disk that survives a kill or a power cut at any byte: copy what is missing into a staging
//! folder, make it durable, rename it into the store, make that durable, and only then register it, all at once. So
//! no path is ever valid before its bytes are on disk, and each start goes on from whatever the last one left.

pub mod abort;
pub mod durability;
pub mod error;
pub mod watch;

pub(crate) mod image;
pub(crate) mod nix_store;
pub(crate) mod register;
pub(crate) mod registration;
pub(crate) mod room;

mod copy;
mod layout;
mod leftovers;
pub(crate) mod mend;
mod plan;
mod pool;
mod profiles;
mod roots;

pub mod verify;

use std::fs::{File, symlink_metadata};
use std::io::ErrorKind;
use std::path::Path;

use contract::image::Mark;

pub use self::image::{Image, ImagePaths};
pub use self::leftovers::{delete_leftovers, delete_tree};
pub use self::room::Room;

use self::error::{Context, StoreError};
use self::plan::Plan;
use self::watch::{Step, Watch};
use crate::volume::{Volume, mark, version};

/// What the caller decides.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Threads that copy; 0: as many as are useful. Cold, they wait for the disk, so it is far more than CPUs.
    pub threads: u32,
    /// Whether a volume that is too full may be collected first. Not while a home volume is absent into which its
    /// roots point.
    pub may_collect: bool,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Seeded {
    /// Paths that were copied.
    pub paths: usize,
    /// What they take on disk.
    pub room: Room,
    /// A collection made the room.
    pub collected: bool,
}

/// Cold on two cores, 8 to 24 take as long: each has the disk read ahead. A slower disk keeps more of them waiting.
const THREADS: u32 = 16;

/// Makes the volume hold the image's store whole. Next to nothing where it does already.
///
/// # Errors
/// See [`StoreError`]. After any of them, and after a kill at any moment, the next run goes on from there.
pub fn run(
    volume: &mut Volume,
    image: &Image,
    options: Options,
    watch: &Watch<'_>,
) -> Result<Seeded, StoreError> {
    leftovers::set_staging_aside(volume)?;
    watch.step(Step::Cleared)?;
    if volume.holds(image) {
        return Ok(Seeded::default());
    }
    let threads = match options.threads {
        0 => THREADS,
        threads => threads,
    } as usize;
    let registration = image.registration()?;
    let entries = plan::entries(image, &registration)?;
    let plan = plan::make(volume, image, &entries, Options { threads: threads as u32, ..options }, watch)?;
    watch.step(Step::Planned)?;

    begin(volume, image, watch)?;
    watch.step(Step::Begun)?;
    bring(volume, image, &plan, threads, watch)?;
    settle(volume, image, &entries, watch)?;

    Ok(Seeded { paths: plan.missing.len(), room: plan.room, collected: plan.collected })
}

/// Marks the volume as ours, and as not whole.
fn begin(volume: &mut Volume, image: &Image, watch: &Watch<'_>) -> Result<(), StoreError> {
    let old = match volume.mark() {
        Some(mark) => mark.clone(),
        None => mark::fresh()?,
    };
    // The image's Nix opens the store from here on.
    let nix_version = version::newest(&old.nix_version, &image.manifest().nix_version).into();
    let new = Mark { image: String::new(), nix_version, ..old };
    if volume.mark() != Some(&new) {
        volume.set_mark(new, watch.durability)?;
    }
    layout::make(volume, image)
}

/// Missing paths become valid.
fn bring(
    volume: &Volume,
    image: &Image,
    plan: &Plan<'_>,
    threads: usize,
    watch: &Watch<'_>,
) -> Result<(), StoreError> {
    if plan.missing.is_empty() {
        return Ok(());
    }
    let staging = leftovers::make_staging(volume)?;
    let database = match register::has_database(volume) {
        true => None,
        false => register::stage_database(image, &staging)?,
    };
    let trees = plan.names.iter().map(|name| (image.source(name), staging.join(name))).collect();
    copy::copy(trees, plan.room.bytes, threads, volume.dir(), watch)?;
    watch.step(Step::Copied)?;
    watch.durability.filesystem(volume.dir()).context("make durable what was copied to", volume.path())?;
    watch.step(Step::Durable)?;

    for name in &plan.names {
        let to = volume.store_path(name);
        // Nobody else writes here, and what was in the way is aside.
        copy::place(&staging.join(name), &to)?;
    }
    let store = volume.path().join("store");
    File::open(&store).and_then(|dir| watch.durability.file(&dir)).context("make durable", &store)?;
    watch.step(Step::Placed)?;

    register::register(volume, image, database, &plan.missing, watch.abort)?;
    leftovers::remove_staging(&staging)?;
    watch.step(Step::Registered)
}

/// The image becomes the volume's one: roots, profiles, mark.
fn settle(
    volume: &mut Volume,
    image: &Image,
    entries: &[registration::Entry<'_>],
    watch: &Watch<'_>,
) -> Result<(), StoreError> {
    let id = &image.manifest().id;
    let profiles = profiles::find(image.nix())?;
    roots::add(volume, id, entries.iter().map(|e| e.path))?;
    let others = roots::others(volume, id)?;
    profiles::switch(&volume.state(), volume.path(), &profiles, &others)?;
    roots::drop_images(&others)?;
    watch.step(Step::Rooted)?;
    watch.durability.filesystem(volume.dir()).context("make durable", volume.path())?;
    watch.step(Step::Settled)?;

    let Some(mark) = volume.mark().cloned() else { return Ok(()) };
    volume.set_mark(Mark { image: id.clone(), ..mark }, watch.durability)?;
    watch.step(Step::Marked)
}

/// Whether something has this name, link or not.
fn is_there(path: &Path) -> Result<bool, StoreError> {
    match symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io("look at", path, error)),
    }
}
