//! Seeding on scratch stores, as root, with the machine's own Nix and without containers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod adoption;
mod checkpoints;
mod child;
mod daemon;
mod full;
mod image;
mod kill_points;
mod losses;
mod merging;
mod mounts;
mod power_cuts;
mod powerless;
mod random;
mod refusals;
mod repairs;
mod running_cuts;
mod store;
