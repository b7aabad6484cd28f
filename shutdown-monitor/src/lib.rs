//! Stops an idle builder: judges what the daemon and user containers publish, asks both to close admission, and tells all to
//! leave only when both answer that nothing is going on. In a cluster the API server ends the builder, is told of running builds, and
//! keeps a note of how the builder is.

pub mod cluster;
pub mod engine;
pub mod evidence;
pub mod judge;
pub mod keeps;
pub mod serve;
pub mod watch;
