//! Against objects recorded from a real cluster.
