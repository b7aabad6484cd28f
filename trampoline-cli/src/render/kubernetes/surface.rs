//! The tables of `[kubernetes]` that are written in the words of the Kubernetes API.

use contract::config::Config;
use contract::exit::Exit;
use k8s_openapi::api::core::v1::{Affinity, PodDNSConfig, PodTemplateSpec, Toleration};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::extra::{self, Extra};
use crate::error::{CliError, Result};
use crate::render::strategic;
use crate::render::strict::{self, Problem};

/// All of them, as the API has them.
#[derive(Debug, Default)]
pub(super) struct Surface {
    pub(super) tolerations: Vec<Toleration>,
    pub(super) affinity: Option<Affinity>,
    pub(super) dns: Option<PodDNSConfig>,
    pub(super) volumes: Vec<Extra>,
    /// Its fields are those of the type; whether it can be merged shows with the pod.
    pub(super) patch: Option<Value>,
}

/// `kubectl explain` of what an option takes.
const fn explained(key: &str) -> &'static str {
    match key.as_bytes() {
        b"tolerations" => "pod.spec.tolerations",
        b"affinity" => "pod.spec.affinity",
        b"dns" => "pod.spec.dnsConfig",
        b"extra-volumes" => "pod.spec.volumes",
        _ => "podtemplate.template",
    }
}

impl Surface {
    /// Refuses what the API does not know, by file, line and key.
    pub(super) fn read(config: &Config) -> Result<Self> {
        let tables = &config.kubernetes;
        if let Some(patch) = &tables.pod_patch {
            read_one::<PodTemplateSpec>(config, "pod-patch", &strategic::without_directives(patch))?;
        }
        let volumes = tables.extra_volumes.as_ref().and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        Ok(Self {
            tolerations: tables
                .tolerations
                .as_ref()
                .map(|value| read_one(config, "tolerations", value))
                .transpose()?
                .unwrap_or_default(),
            affinity: optional(config, "affinity", tables.affinity.as_ref())?,
            dns: optional(config, "dns", tables.dns.as_ref())?,
            volumes: extra::read(volumes).map_err(|problem| refused(config, "extra-volumes", &problem))?,
            patch: tables.pod_patch.clone(),
        })
    }
}

fn optional<T: DeserializeOwned + Serialize>(
    config: &Config,
    key: &str,
    value: Option<&Value>,
) -> Result<Option<T>> {
    value.map(|value| read_one(config, key, value)).transpose()
}

fn read_one<T: DeserializeOwned + Serialize>(config: &Config, key: &str, value: &Value) -> Result<T> {
    strict::read(value).map_err(|problem| refused(config, key, &problem))
}

/// `FILE:LINE: kubernetes.KEY.PATH: problem`.
pub(super) fn refused(config: &Config, key: &str, problem: &Problem) -> CliError {
    let (path, origin) = config.origin_below(&format!("kubernetes.{key}"), &problem.path);
    CliError::new(Exit::Config, format!("{origin}: {path}: {}", problem.problem)).hint(format!(
        "`kubectl explain {}` lists the fields; `trampoline-cli config default` has an example",
        explained(key)
    ))
}
