//! Stops an idle builder: judges what the daemon and user containers publish, asks both to close admission, and tells all to
//! leave only when both answer that nothing is going on.

pub mod judge;
pub mod serve;
pub mod watch;
