//! What the scenarios run against, from the environment.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::engine::{self, Engine};

/// The client, as an absolute path.
pub const CLI: &str = "TRAMPOLINE_CLI";
/// Name of the image of the builders.
pub const IMAGE: &str = "TRAMPOLINE_IMAGE";
/// `podman`, `podman-rootless`, `podman-remote` or `kubernetes`.
pub const ENGINE: &str = "TRAMPOLINE_ENGINE";
/// Folder for the logs of builders whose scenario failed; not set: `target/e2e-logs` of the current folder.
pub const LOGS: &str = "TRAMPOLINE_E2E_LOGS";

/// See the constants of this module.
#[derive(Debug)]
pub struct Setting {
    /// The client.
    pub cli: PathBuf,
    /// Image of the builders.
    pub image: String,
    /// What runs them.
    pub engine: &'static dyn Engine,
    /// Where logs of failures go.
    pub logs: PathBuf,
}

static SETTING: OnceLock<Setting> = OnceLock::new();

/// Reads the environment, once.
///
/// # Errors
/// Which variable is missing or wrong.
pub fn read() -> Result<&'static Setting, String> {
    if let Some(setting) = SETTING.get() {
        return Ok(setting);
    }
    let cli = PathBuf::from(variable(CLI)?);
    if !cli.is_absolute() || !cli.is_file() {
        return Err(format!("{CLI}={} is not the absolute path of a program", cli.display()));
    }
    let engine = engine::named(&variable(ENGINE)?).map_err(|problem| format!("{ENGINE}: {problem}"))?;
    let logs = std::env::var_os(LOGS).map_or_else(|| PathBuf::from("target/e2e-logs"), PathBuf::from);
    Ok(SETTING.get_or_init(|| Setting { cli, image: variable(IMAGE).unwrap_or_default(), engine, logs }))
        .and_then(
            |setting| if setting.image.is_empty() { Err(format!("{IMAGE} is not set")) } else { Ok(setting) },
        )
}

/// The environment, which [`read`] has found to be complete.
///
/// # Panics
/// Where it is not.
#[must_use]
pub fn setting() -> &'static Setting {
    read().unwrap_or_else(|problem| panic!("{problem}"))
}

pub(crate) fn variable(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("{name} is not set"))
}
