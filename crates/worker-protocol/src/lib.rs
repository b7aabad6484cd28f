//! The Nix daemon's protocol, as far as it is used here: the greeting, garbage collection and
//! what surrounds it, and store paths on their way.
//!
//! No I/O of its own: the caller brings a connected stream (anything that is `Read + Write`), its deadlines and, on an
//! asynchronous runtime, the thread that may block on it. To interrupt a conversation, shut the stream down from outside:
//! the daemon then ends what it does for us, and the call here returns an error.
//!
//! The peer is not trusted: each length is bounded, memory is taken as bytes arrive, and lists of store paths are handed
//! over one by one.

mod build;
mod connection;
mod error;
mod hello;
mod moving;
mod nar;
mod stderr;
mod valid_path;
mod wire;

pub use build::{BuildMode, BuildOutcome, Derivation};
pub use connection::{Connection, GcAction, GcOutcome, PathInfo};
pub use error::{DaemonError, Error, Result};
pub use hello::{Hello, OLDEST_MINOR, OUR_MINOR, handshake};
pub use moving::Frames;
pub use stderr::{Field, Message};
pub use valid_path::ValidPath;
