//! The image's own store, as `daemon-init bake` has written it down.

use std::fs;
use std::path::{Path, PathBuf};

use contract::image::ImageManifest;
use contract::places;

use super::error::{Context, StoreError};
use super::nix_store::NixStore;

/// Where logical store paths begin, whatever the folder that holds them.
pub(crate) const STORE_DIR: &str = "/nix/store/";

/// Where the image keeps its parts.
#[derive(Debug, Clone)]
pub struct ImagePaths {
    /// Its `/nix`, as long as the volume does not cover it.
    pub nix: PathBuf,
    /// [`ImageManifest`] as JSON.
    pub manifest: PathBuf,
    /// Output of `nix-store --dump-db`.
    pub registration: PathBuf,
}

impl Default for ImagePaths {
    fn default() -> Self {
        Self {
            nix: places::NIX.into(),
            manifest: places::IMAGE_MANIFEST.into(),
            registration: places::IMAGE_REGISTRATION.into(),
        }
    }
}

/// A loaded manifest and where the rest is.
#[derive(Debug, Clone)]
pub struct Image {
    paths: ImagePaths,
    manifest: ImageManifest,
}

impl Image {
    /// Reads the manifest only: the registration is needed where something is to be copied.
    ///
    /// # Errors
    /// The manifest is absent or unreadable.
    pub fn load(paths: ImagePaths) -> Result<Self, StoreError> {
        let text = fs::read_to_string(&paths.manifest).context("read", &paths.manifest)?;
        let manifest: ImageManifest = serde_json::from_str(&text)
            .map_err(|e| StoreError::Image { path: paths.manifest.clone(), reason: e.to_string() })?;
        // It names folders below.
        if manifest.id.is_empty() || !manifest.id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(StoreError::Image { path: paths.manifest, reason: "its id is not a hash".into() });
        }
        Ok(Self { paths, manifest })
    }

    /// What it says of itself.
    #[must_use]
    pub fn manifest(&self) -> &ImageManifest {
        &self.manifest
    }

    /// Its `/nix`.
    pub(crate) fn nix(&self) -> &Path {
        &self.paths.nix
    }

    /// The registration of all its paths.
    pub(crate) fn registration(&self) -> Result<String, StoreError> {
        fs::read_to_string(&self.paths.registration).context("read", &self.paths.registration)
    }

    /// Where the image holds a store path, given its name below the store folder.
    pub(crate) fn source(&self, name: &str) -> PathBuf {
        self.paths.nix.join("store").join(name)
    }

    /// Its Nix, for the store below `root`.
    pub(crate) fn nix_store(&self, root: &Path) -> Result<NixStore, StoreError> {
        Ok(NixStore::new(NixStore::find(&self.paths.nix)?, root))
    }

    /// For what the image contradicts itself in.
    pub(crate) fn broken(&self, reason: impl Into<String>) -> StoreError {
        StoreError::Image { path: self.paths.registration.clone(), reason: reason.into() }
    }
}
