//! What the client and the agents agree on: configuration, places, the files
//! through which they speak to each other, and exit codes.
//!
//! Pure: no I/O, no threads, not async. Whoever reads a file hands its text in.

pub mod cluster;
pub mod config;
pub mod exit;
pub mod handshake;
pub mod image;
pub mod job;
pub mod places;
pub mod tree;
