//! Seeding on scratch stores, as root, with the machine's own Nix and without containers.

mod image;
mod merging;
mod mounts;
mod store;
