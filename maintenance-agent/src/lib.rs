//! Keeps the store small: collects garbage on a schedule and when asked, links identical files, and publishes how full
//! the volume is. All of it through the daemon: one opener of the store.

mod before;
pub mod collection;
pub mod conversation;
pub mod cut;
mod link;
mod memory;
mod metrics;
pub mod once;
mod pace;
pub mod pressure;
pub mod schedule;
pub mod serve;
pub mod store;
mod turn;
pub mod verify;
mod work;

/// [`contract::handshake::GcSummary::cause`] of one that was asked for.
pub const ASKED: &str = "asked";
/// Of one that was due.
pub const SCHEDULE: &str = "schedule";
/// Of one for which the volume had too little free.
pub const PRESSURE: &str = "pressure";
