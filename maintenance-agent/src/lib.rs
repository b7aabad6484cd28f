//! Keeps the store small: collects garbage on a schedule and when asked, links identical files, and publishes how full
//! the volume is. All of it through the daemon: one opener of the store.

pub mod conversation;
mod metrics;
pub mod once;
pub mod schedule;
pub mod serve;
pub mod store;
mod work;
