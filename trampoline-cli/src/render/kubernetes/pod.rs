//! The pod of the StatefulSet.

use std::collections::BTreeMap;
use std::time::Duration;

use contract::cluster::STATEFUL_SET_ENV;
use contract::config::{Config, Limits, Size};
use contract::exit::Exit;
use contract::handshake::Isolation;
use contract::places::Container as Agent;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, HostAlias, LocalObjectReference, PodSpec, PodTemplateSpec,
    ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::surface::{self, Surface};
use super::{Common, template, userns};
use crate::engine::{label, pod_name};
use crate::error::{CliError, Result};
use crate::render::{PREPARE, Sources, limits, metrics_port, strategic, strict};

/// What the agents need after running builds have had their time: to end, and to say so.
const BEYOND_GRACE: Duration = Duration::from_secs(30);
/// Node label that says which machine language a node speaks.
const ARCH: &str = "kubernetes.io/arch";
/// Nix's name of an architecture, and Kubernetes'.
const ARCHITECTURES: [(&str, &str); 8] = [
    ("x86_64", "amd64"),
    ("aarch64", "arm64"),
    ("i686", "386"),
    ("armv7l", "arm"),
    ("armv6l", "arm"),
    ("riscv64", "riscv64"),
    ("powerpc64le", "ppc64le"),
    ("s390x", "s390x"),
];

/// With everything that the configuration says of it, the patch last.
pub(super) fn template(common: &Common, sources: &Sources<'_>, surface: &Surface) -> Result<PodTemplateSpec> {
    let config = sources.config;
    let mut labels = BTreeMap::from([
        ("app.kubernetes.io/name".to_owned(), "nix-trampoline".to_owned()),
        (label::BUILDER.to_owned(), common.builder.clone()),
    ]);
    labels.extend(config.kubernetes.labels.clone());
    let annotations = config.kubernetes.annotations.clone();
    let metadata = ObjectMeta {
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        ..ObjectMeta::default()
    };
    let mut spec = template::pod_spec()?;
    if sources.isolation == Isolation::Userns {
        userns::apply(&mut spec, config);
    }
    fill(&mut spec, common, config, surface)?;
    let template = PodTemplateSpec { metadata: Some(metadata), spec: Some(spec) };
    match &surface.patch {
        Some(patch) => patched(&template, patch, common, config),
        None => Ok(template),
    }
}

fn fill(spec: &mut PodSpec, common: &Common, config: &Config, surface: &Surface) -> Result<()> {
    let tables = &config.kubernetes;
    for container in spec.init_containers.iter_mut().flatten().chain(&mut spec.containers) {
        fill_container(container, common, config, surface);
        // It fills the volume then, as the daemon container does otherwise.
        if container.name == PREPARE && spec.host_users == Some(false) {
            let of_daemon = resources(&limits::wanted(config, Agent::Daemon).1);
            container.resources.get_or_insert_default().limits = of_daemon.limits;
        }
    }
    for volume in spec.volumes.iter_mut().flatten() {
        if let Some(claim) = &mut volume.persistent_volume_claim {
            claim.claim_name = common.rename(&claim.claim_name);
        }
        // The cluster's own map of certificates keeps its name.
        if let Some(map) = &mut volume.config_map {
            map.name = common.rename(&map.name);
        }
    }
    spec.volumes.get_or_insert_default().extend(surface.volumes.iter().map(|extra| extra.volume.clone()));
    let grace = (config.shutdown.grace + BEYOND_GRACE).as_secs();
    spec.termination_grace_period_seconds = i64::try_from(grace).ok();
    spec.service_account_name =
        Some(tables.service_account.clone().unwrap_or_else(|| pod_name(&common.builder)));
    spec.node_selector = node_selector(config)?;
    spec.tolerations = some(surface.tolerations.clone());
    spec.affinity.clone_from(&surface.affinity);
    spec.priority_class_name.clone_from(&tables.priority_class);
    spec.runtime_class_name.clone_from(&tables.runtime_class);
    let secret = |name: &String| LocalObjectReference { name: name.clone() };
    spec.image_pull_secrets = some(tables.pull_secrets.iter().map(secret).collect());
    spec.dns_policy = tables.dns_policy.map(|policy| policy.to_string());
    spec.dns_config.clone_from(&surface.dns);
    spec.host_aliases = some(host_aliases(&tables.host_aliases));
    Ok(())
}

fn fill_container(container: &mut Container, common: &Common, config: &Config, surface: &Surface) {
    let tables = &config.kubernetes;
    container.image = Some(config.builder.image.clone());
    container.image_pull_policy = Some(tables.image_pull_policy.to_string());
    let variables = container.env.get_or_insert_default();
    for variable in variables.iter_mut().filter(|variable| variable.name == STATEFUL_SET_ENV) {
        variable.value = variable.value.take().map(|name| common.rename(&name));
    }
    for (name, value) in &tables.env {
        match variables.iter_mut().find(|variable| variable.name == *name) {
            Some(variable) => variable.value = Some(value.clone()),
            None => {
                variables.push(EnvVar { name: name.clone(), value: Some(value.clone()), value_from: None })
            }
        }
    }
    if variables.is_empty() {
        container.env = None;
    }
    let Some(agent) = Agent::ALL.into_iter().find(|agent| agent.name() == container.name) else { return };
    container.resources = Some(resources(&limits::wanted(config, agent).1));
    if let (Agent::Maintenance, Some(number)) = (agent, metrics_port(config)) {
        container.ports.get_or_insert_default().push(ContainerPort {
            name: Some("metrics".to_owned()),
            container_port: i32::from(number),
            ..ContainerPort::default()
        });
    }
    if agent == Agent::Daemon && config.offers_kvm() {
        container.resources.iter_mut().for_each(|resources| device(resources, tables.kvm_resource.as_ref()));
    }
    let seen = surface.volumes.iter().filter(|extra| extra.containers.contains(&agent));
    container.volume_mounts.get_or_insert_default().extend(seen.map(|extra| extra.mount.clone()));
}

/// An empty list is left out: the API does the same.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

fn resources(limits: &Limits) -> ResourceRequirements {
    let both = |memory: Size, cpus: f64| {
        Some(BTreeMap::from([("memory".to_owned(), quantity(memory)), ("cpu".to_owned(), millis(cpus))]))
    };
    ResourceRequirements {
        limits: both(limits.memory, limits.cpus),
        requests: both(limits.memory_request, limits.cpu_request),
        ..ResourceRequirements::default()
    }
}

/// One of what a device plugin offers; no cluster gives less than was asked for.
fn device(resources: &mut ResourceRequirements, name: Option<&String>) {
    let Some(name) = name else { return };
    for amounts in [&mut resources.limits, &mut resources.requests] {
        amounts.get_or_insert_default().insert(name.clone(), Quantity("1".to_owned()));
    }
}

/// As Kubernetes writes sizes: a small `k`, and bytes without a unit.
pub(super) fn quantity(size: Size) -> Quantity {
    let text = size.to_string();
    Quantity(match (text.strip_suffix('B'), text.strip_suffix('K')) {
        (Some(bytes), _) => bytes.to_owned(),
        (_, Some(thousands)) => format!("{thousands}k"),
        _ => text,
    })
}

/// As the API server writes it back.
fn millis(cpus: f64) -> Quantity {
    let milli = (cpus * 1000.0).round();
    Quantity(if milli % 1000.0 == 0.0 { format!("{}", milli / 1000.0) } else { format!("{milli}m") })
}

fn node_selector(config: &Config) -> Result<Option<BTreeMap<String, String>>> {
    let mut labels = config.kubernetes.node_selector.clone();
    if let Some(system) = &config.builder.system {
        let nix = system.trim_end_matches("-linux");
        let found = ARCHITECTURES.iter().find(|(name, _)| *name == nix).map(|(_, label)| *label);
        let refused = |problem: String| {
            CliError::new(
                Exit::Config,
                format!("{}: builder.system = {system:?}: {problem}", config.origin("builder.system")),
            )
        };
        let Some(arch) = found else {
            return Err(refused("no node of Kubernetes is called that".to_owned())
                .hint(format!("leave it out, and choose nodes with {ARCH:?} in `node-selector`")));
        };
        match labels.insert(ARCH.to_owned(), arch.to_owned()) {
            Some(other) if other != arch => {
                return Err(refused(format!(
                    "nodes of it are {arch:?}, and `node-selector` asks for {other:?}"
                ))
                .hint(format!("take {ARCH:?} out of `node-selector` under [kubernetes]")));
            }
            _ => {}
        }
    }
    Ok((!labels.is_empty()).then_some(labels))
}

/// One entry for each address.
fn host_aliases(addresses: &BTreeMap<String, String>) -> Vec<HostAlias> {
    let mut by_address: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, address) in addresses {
        by_address.entry(address).or_default().push(name.clone());
    }
    by_address
        .into_iter()
        .map(|(ip, names)| HostAlias { ip: ip.to_owned(), hostnames: Some(names) })
        .collect()
}

/// Merges the user's patch, and refuses what no builder can be made from.
fn patched(
    template: &PodTemplateSpec,
    patch: &serde_json::Value,
    common: &Common,
    config: &Config,
) -> Result<PodTemplateSpec> {
    let refused = |problem: strict::Problem| surface::refused(config, "pod-patch", &problem);
    let of = |problem: String| refused(strict::Problem { path: Vec::new(), problem });
    let mut value = serde_json::to_value(template)
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot write the pod as JSON: {error}")))?;
    strategic::merge(&mut value, patch).map_err(refused)?;
    let result: PodTemplateSpec = strict::read(&value).map_err(refused)?;
    let label = result.metadata.as_ref().and_then(|meta| meta.labels.as_ref()?.get(label::BUILDER));
    if label != Some(&common.builder) {
        return Err(of(format!("takes the label {} from the pod", label::BUILDER)));
    }
    let containers = result.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    for agent in [Agent::Daemon, Agent::User] {
        if !containers.iter().any(|container| container.name == agent.name()) {
            return Err(of(format!("takes the container {} from the pod", agent.name())));
        }
    }
    if let Some(stranger) = containers.iter().find(|container| container.image.is_none()) {
        let ours: Vec<&str> = Agent::ALL.iter().map(|agent| agent.name()).collect();
        return Err(of(format!(
            "the container {} has no image; those of the builder are {}",
            stranger.name,
            ours.join(", ")
        )));
    }
    Ok(result)
}
