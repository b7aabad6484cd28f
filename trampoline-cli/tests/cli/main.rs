//! The program as a user types it, without an engine: a home of its own, a PATH without podman.

#![allow(clippy::unwrap_used, reason = "a test")]

mod archives;
mod configs;
mod dry_run;
mod help;
mod refusals;
mod sandbox;
