//! sshd: its configuration, its host key, the keys that it accepts, and its life.

mod config;
mod keys;
mod supervise;

use std::path::PathBuf;

use agent::paths::Paths;

pub(crate) use config::LOGIN;
pub use config::{Prepared, prepare};
pub use keys::{add, host_key, listed, write_config_keys};
pub use supervise::Sshd;

/// Where the host key is: on the home volume, so that it is made once, and the client's pin stays good.
pub(crate) fn key_dir(paths: &Paths) -> PathBuf {
    paths.home.join(".local/share/trampoline")
}

/// The private host key.
fn host_key_file(paths: &Paths) -> PathBuf {
    key_dir(paths).join("ssh_host_ed25519_key")
}

/// Keys from `trampoline.toml`, in the run folder: a key that leaves the file leaves the builder.
const CONFIG_KEYS: &str = "authorized_keys";
/// Beside them.
const BANNER: &str = "ssh_banner";
