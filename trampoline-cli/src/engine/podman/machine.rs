//! What `podman info` tells of the machine.

use serde::Deserialize;

use super::command;
use crate::engine::Capacity;
use crate::error::{CliError, Result};
use crate::ui::Ui;

/// The part of `podman info --format json` that matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Info {
    pub(super) host: Host,
    pub(super) store: Store,
    #[serde(default)]
    pub(super) version: Version,
}

/// See [`Info`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Host {
    pub(super) cgroup_version: String,
    #[serde(default)]
    pub(super) cgroup_controllers: Option<Vec<String>>,
    pub(super) cpus: u32,
    pub(super) mem_total: u64,
    #[serde(default)]
    pub(super) network_backend: String,
    pub(super) security: Security,
    #[serde(default)]
    pub(super) id_mappings: Option<IdMappings>,
    #[serde(default)]
    pub(super) slirp4netns: Program,
    #[serde(default)]
    pub(super) pasta: Program,
}

/// See [`Info`].
#[derive(Debug, Default, Deserialize)]
pub(super) struct Program {
    #[serde(default)]
    pub(super) executable: String,
}

/// See [`Info`].
#[derive(Debug, Deserialize)]
pub(super) struct Security {
    pub(super) rootless: bool,
}

/// See [`Info`].
#[derive(Debug, Default, Deserialize)]
pub(super) struct IdMappings {
    #[serde(default)]
    pub(super) uidmap: Option<Vec<IdMap>>,
    #[serde(default)]
    pub(super) gidmap: Option<Vec<IdMap>>,
}

/// See [`Info`].
#[derive(Debug, Deserialize)]
pub(super) struct IdMap {
    pub(super) container_id: u64,
    pub(super) size: u64,
}

/// See [`Info`].
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Store {
    pub(super) graph_driver_name: String,
    #[serde(default)]
    pub(super) volume_path: String,
    #[serde(default)]
    pub(super) graph_root_allocated: u64,
    #[serde(default)]
    pub(super) graph_root_used: u64,
}

/// See [`Info`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Version {
    #[serde(default)]
    pub(super) version: String,
}

/// What podman answers.
pub(super) async fn ask(ui: Ui) -> Result<Vec<u8>> {
    command::run(ui, &["info", "--format", "json"], None).await
}

/// The part that matters.
pub(super) fn parse(bytes: &[u8]) -> Result<Info> {
    serde_json::from_slice(bytes)
        .map_err(|error| CliError::engine(format!("cannot read what `podman info` says: {error}")))
}

impl Info {
    pub(super) fn capacity(&self) -> Capacity {
        let controllers = self.host.cgroup_controllers.as_deref().unwrap_or_default();
        let has = |name: &str| controllers.iter().any(|controller| controller == name);
        let limits = if self.host.security.rootless && self.host.cgroup_version == "v1" {
            Err("rootless podman cannot limit memory and CPUs on cgroup v1")
        } else if !has("memory") || !has("cpu") {
            Err("the memory and cpu controllers are not delegated to this user")
        } else {
            Ok(())
        };
        Capacity {
            memory: self.host.mem_total,
            cpus: self.host.cpus,
            limits,
            volumes_free: if command::is_remote() {
                self.store.free()
            } else {
                free(&self.store.volume_path)
            },
        }
    }
}

impl Store {
    /// Free bytes where images are kept, and volumes unless they were given another place. None where podman does not tell, as
    /// before 4.1.
    fn free(&self) -> Option<u64> {
        Some(self.graph_root_allocated.saturating_sub(self.graph_root_used)).filter(|&free| free > 0)
    }
}

/// Free bytes of the file system of the nearest folder that exists.
fn free(path: &str) -> Option<u64> {
    let dir = std::path::Path::new(path).ancestors().find(|dir| dir.is_dir())?;
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}
