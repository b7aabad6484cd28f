//! From the one template and the configuration to what an engine is given. Values are set in typed objects,
//! never in text.

pub(crate) mod diff;
pub(crate) mod kubernetes;
pub(crate) mod limits;
pub(crate) mod podman;
mod strategic;
mod strict;
mod template;

use std::collections::BTreeMap;
use std::io::Write;

use contract::config::Config;
use contract::exit::Exit;
use contract::handshake::Isolation;
use contract::places::Container;
use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{CliError, Result};
use crate::resolve::Hosts;
use limits::Resolved;

/// File of the configuration volume that agents read.
pub(crate) const CONFIG_KEY: &str = "trampoline.toml";
/// The operator's certificates, beside it.
pub(crate) const CA_KEY: &str = "ca-bundle.pem";

/// Of somebody who has no trampoline.toml: to an agent, an empty file is one that is being written.
pub(crate) const NOTHING_GIVEN: &str = "# Empty: every option at its default.\n";

/// Name of the init container.
pub(crate) const PREPARE: &str = "prepare";
/// Of the container that fills the store volume in the daemon container's place.
const SEED: &str = "--seed";
/// Of whoever fills the store volume: take over one without a mark.
const ADOPT: &str = "--adopt-store";

/// Everything that decides what a builder looks like.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    /// Its name.
    pub(crate) builder: &'a str,
    /// Checked.
    pub(crate) config: &'a Config,
    /// Of trampoline.toml, as the agents will read it.
    pub(crate) text: &'a str,
    /// PEM text of `daemon.ca-bundle`.
    pub(crate) ca_bundle: Option<&'a str>,
    /// `user@host`.
    pub(crate) owner: &'a str,
    /// Port of sshd on this machine.
    pub(crate) ssh_port: u16,
    /// What each container gets on this machine.
    pub(crate) limits: &'a Resolved,
    /// What keeps builds apart from the machine.
    pub(crate) isolation: Isolation,
    /// Of those that `[kubernetes] egress` names.
    pub(crate) hosts: &'a Hosts,
}

impl Sources<'_> {
    /// Of the configuration volume.
    fn files(&self) -> BTreeMap<String, String> {
        let bundle = self.ca_bundle.map(|bundle| (CA_KEY.to_owned(), bundle.to_owned()));
        let text = if self.text.is_empty() { NOTHING_GIVEN } else { self.text };
        std::iter::once((CONFIG_KEY.to_owned(), text.to_owned())).chain(bundle).collect()
    }
}

/// At which metrics can be read from outside of the pod, if they can.
fn metrics_port(config: &Config) -> Option<u16> {
    let at = contract::config::listen(config.metrics.listen.as_deref()?)?;
    (!at.ip().is_loopback()).then(|| at.port())
}

/// What an engine is given; kept by the client, so that a vanished pod can be made again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rendering {
    /// Its name.
    pub(crate) builder: String,
    /// On everything.
    pub(crate) labels: BTreeMap<String, String>,
    /// The pod.
    pub(crate) pod: Pod,
    /// In the order in which they are made.
    pub(crate) volumes: Vec<VolumeSpec>,
    /// Of the configuration volume.
    pub(crate) files: BTreeMap<String, String>,
    /// Of the pod: another one means that the pod must be made again.
    pub(crate) digest: String,
    /// Name of its image.
    pub(crate) image: String,
    /// Port of sshd on this machine.
    pub(crate) ssh_port: u16,
    /// Everything that a cluster is given, in the order in which it is made. Empty: the pod and its volumes are all.
    #[serde(default)]
    pub(crate) objects: Vec<serde_json::Value>,
    /// Namespace of the objects; none: that of the context.
    #[serde(default)]
    pub(crate) namespace: Option<String>,
}

/// A volume that is made before the pod.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct VolumeSpec {
    /// Its name.
    pub(crate) name: String,
    /// `--opt` of `podman volume create`.
    pub(crate) options: Vec<String>,
}

impl Rendering {
    /// The same pod, which takes over a store without a mark. What is remembered is the other one: once is enough.
    pub(crate) fn adopting(&self) -> Self {
        let mut adopting = self.clone();
        if let Some(spec) = &mut adopting.pod.spec {
            let seeds = |command: &&mut Vec<String>| command.iter().any(|word| word == SEED);
            let before = spec.init_containers.iter_mut().flatten();
            let command = before.filter_map(|container| container.command.as_mut()).find(seeds);
            let daemon = spec.containers.iter_mut().find(|c| c.name == Container::Daemon.name());
            let command = command.or_else(|| daemon.and_then(|container| container.command.as_mut()));
            command.into_iter().for_each(|command| command.push(ADOPT.to_owned()));
        }
        // The same in the object that makes the pod.
        let spec = serde_json::to_value(&adopting.pod.spec).unwrap_or_default();
        let specs =
            adopting.objects.iter_mut().filter_map(|object| object.pointer_mut("/spec/template/spec"));
        specs.for_each(|place| place.clone_from(&spec));
        adopting
    }

    /// As the engine reads it.
    pub(crate) fn manifest(&self) -> Result<String> {
        let written = if self.objects.is_empty() {
            serde_saphyr::to_string(&self.pod)
        } else {
            let documents: std::result::Result<Vec<String>, _> =
                self.objects.iter().map(serde_saphyr::to_string).collect();
            documents.map(|documents| documents.join("---\n"))
        };
        written
            .map_err(|error| CliError::new(Exit::Internal, format!("cannot write the pod as YAML: {error}")))
    }
}

/// First 12 hex digits of the sha256: enough to tell two renderings of one builder apart.
pub(crate) fn digest(bytes: &[u8]) -> String {
    contract::hex(&Sha256::digest(bytes))[..12].to_owned()
}

/// A tar archive of these files, readable by all agents.
pub(crate) fn archive(files: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: &str, text: &str| -> std::io::Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_mode(0o444);
        header.set_size(text.len() as u64);
        // Unpacked over the file of the same name, whose watchers go by time as well.
        header.set_mtime(crate::ui::now());
        archive.append_data(&mut header, name, text.as_bytes())
    };
    files
        .iter()
        .try_for_each(|(name, text)| add(name, text))
        .and_then(|()| archive.into_inner())
        .and_then(|mut bytes| bytes.flush().map(|()| bytes))
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot pack the configuration: {error}")))
}
