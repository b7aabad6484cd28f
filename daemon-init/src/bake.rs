//! `daemon-init bake`: runs while an image is built, as root and without a shell, and writes down what the image's
//! store holds. Doing it again changes nothing.

mod accounts;
mod etc;

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use contract::hex;
use contract::image::ImageManifest;
use contract::places;
use sha2::{Digest, Sha256};

use crate::seed::abort::Abort;
use crate::seed::error::{Context, StoreError};
use crate::seed::image::STORE_DIR;
use crate::seed::nix_store::NixStore;
use crate::seed::watch::{Unwatched, Watch};
use crate::seed::{registration, room};

/// What to bake.
#[derive(Debug, Clone)]
pub struct Bake {
    /// The image's root; `/` in an image build.
    pub root: PathBuf,
    /// What `FROM` named, for the manifest.
    pub base: String,
}

/// Writes manifest and registration, adds our accounts, links nix.conf, makes the mount points. Gives the manifest.
///
/// # Errors
/// Nix fails, a file cannot be written, or the store's database is in use.
pub fn run(bake: &Bake) -> Result<ImageManifest, StoreError> {
    let manifest = write_manifest(bake)?;
    etc::make_real(&bake.root)?;
    accounts::add(&bake.root)?;
    etc::link_nix_conf(&bake.root)?;
    for (folder, mode, owner) in [
        (places::VOLUME, 0o755, 0),
        (places::RUN, 0o755, 0),
        (places::CONFIG_DIR, 0o755, 0),
        (places::HOME, 0o755, places::USER_UID),
        // Builds of the daemon and whatever a session runs.
        ("/tmp", 0o1777, 0),
    ] {
        let path = below(&bake.root, folder);
        fs::create_dir_all(&path).context("make", &path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).context("set the mode of", &path)?;
        std::os::unix::fs::chown(&path, Some(owner), Some(owner)).context("set the owner of", &path)?;
    }
    Ok(manifest)
}

fn write_manifest(bake: &Bake) -> Result<ImageManifest, StoreError> {
    let nix = below(&bake.root, places::NIX);
    let program = NixStore::find(&nix)?;
    // Opening and closing the database also brings a journal that a layer may hold into it.
    let dump = NixStore::new(program.clone(), &bake.root).dump_db(None, &Abort::new())?;
    let broken = |reason: String| StoreError::Image { path: nix.join("var/nix/db"), reason };
    let entries = registration::parse(&dump)
        .ok_or_else(|| broken("its nix-store --dump-db is not understood".into()))?;
    let mut paths: Vec<String> = Vec::with_capacity(entries.len());
    for entry in &entries {
        let name = entry.path.strip_prefix(STORE_DIR).unwrap_or(entry.path);
        let path = nix.join("store").join(name);
        fs::symlink_metadata(&path).context("find the registered", &path)?;
        paths.push(entry.path.into());
    }
    let (observer, abort) = (Unwatched, Abort::new());
    let trees =
        entries.iter().map(|e| nix.join("store").join(e.path.strip_prefix(STORE_DIR).unwrap_or(e.path)));
    let room = room::of_trees(trees.collect(), 4, &Watch::new(&observer, &abort))?;
    if paths.is_empty() {
        return Err(broken("no path is registered; is the base image's database in place?".into()));
    }
    let journal = nix.join("var/nix/db/db.sqlite-wal");
    if fs::metadata(&journal).is_ok_and(|m| m.len() > 0) {
        return Err(broken("its database is in use: a journal is left over".into()));
    }
    let schema = nix.join("var/nix/db/schema");
    let schema = fs::read_to_string(&schema)
        .context("read", &schema)?
        .trim()
        .parse()
        .map_err(|e| broken(format!("schema: {e}")))?;
    let manifest = ImageManifest {
        id: hex(&Sha256::digest(&dump)),
        nix_version: NixStore::version(&program)?,
        schema,
        base: bake.base.clone(),
        system: contract::image::system(),
        paths,
        version: env!("CARGO_PKG_VERSION").into(),
        database: Some(hash_file(&nix.join("var/nix/db/db.sqlite"))?),
        disk_bytes: room.bytes,
        disk_inodes: room.inodes,
    };
    write(&below(&bake.root, places::IMAGE_REGISTRATION), dump.as_bytes())?;
    let path = below(&bake.root, places::IMAGE_MANIFEST);
    let text = serde_json::to_vec(&manifest).map_err(|e| StoreError::Io {
        doing: "write",
        path: path.clone(),
        source: e.into(),
    })?;
    write(&path, &text)?;
    Ok(manifest)
}

/// An absolute path of the image, on this machine.
fn below(root: &Path, absolute: &str) -> PathBuf {
    root.join(absolute.trim_start_matches('/'))
}

fn hash_file(path: &Path) -> Result<String, StoreError> {
    let mut file = File::open(path).context("read", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 128 << 10];
    loop {
        match file.read(&mut buffer).context("read", path)? {
            0 => return Ok(hex(&hash.finalize())),
            got => hash.update(&buffer[..got]),
        }
    }
}

/// Replaces a file, or a link by a file, without writing through the link.
fn write(path: &Path, content: &[u8]) -> Result<(), StoreError> {
    write_mode(path, content, 0o644)
}

fn write_mode(path: &Path, content: &[u8], mode: u32) -> Result<(), StoreError> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).context("make", parent)?;
    }
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(StoreError::io("remove", &new, error));
        }
        _ => {}
    }
    fs::write(&new, content).context("write", &new)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).context("set the mode of", &new)?;
    fs::rename(&new, path).context("write", path)
}
