//! The program as a user types it, without an engine: a home of its own, a PATH without podman.

mod archives;
mod configs;
mod dry_run;
mod help;
mod refusals;
mod sandbox;
