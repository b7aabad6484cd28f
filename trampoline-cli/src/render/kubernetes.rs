//! The template as a cluster takes it: every object of it, under the builder's name, with what trampoline.toml asks for.

mod egress;
mod extra;
mod objects;
mod pod;
pub(crate) mod surface;
mod userns;

use std::collections::BTreeMap;

use contract::config::Config;
use contract::exit::Exit;
use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;

use super::{Rendering, Sources, digest, template};
use crate::engine::{label, pod_name};
use crate::error::{CliError, Result};
use surface::Surface;

/// What the template calls its builder, and what its objects are called after.
const TEMPLATE_BUILDER: &str = "builder";

/// What is common to all objects of one builder.
struct Common {
    /// Its name.
    builder: String,
    /// Where they are; none: wherever the context is.
    namespace: Option<String>,
    /// The user's.
    labels: BTreeMap<String, String>,
    /// The user's and ours.
    annotations: BTreeMap<String, String>,
}

impl Common {
    /// The name of what the template calls `name`.
    fn rename(&self, name: &str) -> String {
        match name.strip_prefix(&pod_name(TEMPLATE_BUILDER)) {
            Some(rest) => format!("{}{rest}", pod_name(&self.builder)),
            None => name.to_owned(),
        }
    }

    /// Labels that select, with the builder's name.
    fn relabel(&self, labels: &mut BTreeMap<String, String>) {
        if let Some(value) = labels.get_mut(label::BUILDER) {
            value.clone_from(&self.builder);
        }
    }

    fn metadata(&self, metadata: &mut ObjectMeta) {
        metadata.name = metadata.name.take().map(|name| self.rename(&name));
        metadata.namespace.clone_from(&self.namespace);
        let labels = metadata.labels.get_or_insert_default();
        labels.extend(self.labels.clone());
        self.relabel(labels);
        metadata.annotations.get_or_insert_default().extend(self.annotations.clone());
    }
}

/// Every object of a builder. `namespace` is that of the configuration or of a flag, if there is one.
pub(crate) fn render(sources: &Sources<'_>, namespace: Option<&str>) -> Result<Rendering> {
    let config = sources.config;
    let surface = Surface::read(config)?;
    let mut annotations = config.kubernetes.annotations.clone();
    annotations.insert(label::OWNER.to_owned(), sources.owner.to_owned());
    annotations.insert(label::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    let common = Common {
        builder: sources.builder.to_owned(),
        namespace: namespace.map(str::to_owned),
        labels: config.kubernetes.labels.clone(),
        annotations,
    };
    let files = sources.files();
    let mut template = pod::template(&common, sources, &surface)?;
    let digest = stamp(&mut template)?;
    let made = objects::Made {
        common: &common,
        config,
        hosts: sources.hosts,
        files: &files,
        template: &template,
        digest: &digest,
    };
    let objects = template::objects()?
        .into_iter()
        .filter_map(|object| made.object(object).transpose())
        .collect::<Result<Vec<Value>>>()?;
    let mut labels = common.labels.clone();
    labels.insert(label::BUILDER.to_owned(), sources.builder.to_owned());
    Ok(Rendering {
        builder: sources.builder.to_owned(),
        labels,
        pod: Pod {
            metadata: ObjectMeta {
                name: Some(pod_name(sources.builder)),
                ..template.metadata.unwrap_or_default()
            },
            spec: template.spec,
            status: None,
        },
        volumes: Vec::new(),
        files,
        digest,
        image: config.builder.image.clone(),
        ssh_port: sources.ssh_port,
        objects,
        namespace: namespace.map(str::to_owned),
    })
}

/// The digest of the template; it is then noted in it, so that a pod tells what it was made from.
fn stamp(template: &mut PodTemplateSpec) -> Result<String> {
    let text = serde_json::to_vec(template)
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot write the pod as JSON: {error}")))?;
    let digest = digest(&text);
    let annotations = template.metadata.get_or_insert_default().annotations.get_or_insert_default();
    annotations.insert(label::DIGEST.to_owned(), digest.clone());
    Ok(digest)
}

/// Whether `[kubernetes]` says something that the API knows.
pub(crate) fn check(config: &Config) -> Result<()> {
    Surface::read(config).map(|_| ())
}

#[cfg(test)]
mod tests;
