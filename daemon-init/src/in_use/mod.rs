//! What the user's processes use of the store is spared by every collection. Nix would find it by itself in `/proc`, but only where the
//! daemon may read other users' processes, which without privilege it may not.

mod arrivals;
mod fresh;
pub mod gate;
mod roots;

use agent::paths::Paths;
use agent::status::chain;

/// At the end of the pod's life. What a killed one leaves goes before the next collection.
pub fn forget(paths: &Paths) {
    if let Err(error) = roots::clear(paths).and_then(|()| fresh::forget(paths)) {
        tracing::warn!("what was in use stays rooted until the next collection: {}", chain(&error));
    }
}
