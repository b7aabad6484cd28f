//! The template as podman takes it: a Pod whose volumes are claims of volumes that the client makes first.

use std::collections::BTreeMap;

use contract::cluster::STATEFUL_SET_ENV;
use contract::exit::Exit;
use contract::places::{Container as Agent, SSH_PORT};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, PersistentVolumeClaimVolumeSource, Pod, PodSpec, ResourceRequirements,
    SecurityContext, Volume as PodVolume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::limits::Limit;
use super::{Rendering, Sources, VolumeSpec, digest, metrics_port, template};
use crate::engine::{Volume, label, pod_name};
use crate::error::{CliError, Result};

/// Everything that is made on this machine for one builder.
pub(crate) fn render(sources: &Sources<'_>) -> Result<Rendering> {
    let builder = sources.builder;
    let mut labels = BTreeMap::from([
        (label::BUILDER.to_owned(), builder.to_owned()),
        (label::OWNER.to_owned(), sources.owner.to_owned()),
    ]);
    let spec = pod_spec(template::pod_spec()?, sources);
    let mut pod = Pod {
        metadata: ObjectMeta { name: Some(pod_name(builder)), ..ObjectMeta::default() },
        spec: Some(spec),
        status: None,
    };
    let text = serde_json::to_vec(&pod)
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot write the pod as JSON: {error}")))?;
    let digest = digest(&text);
    let volumes = Volume::ALL.map(|volume| VolumeSpec { name: volume.of(builder), options: options(volume) });
    let mut pod_labels = labels.clone();
    pod_labels.insert(label::DIGEST.to_owned(), digest.clone());
    pod_labels.insert(label::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    pod.metadata.labels = Some(pod_labels);
    labels.insert(label::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
    Ok(Rendering {
        builder: builder.to_owned(),
        labels,
        pod,
        volumes: volumes.to_vec(),
        files: sources.files(),
        digest,
        image: sources.config.builder.image.clone(),
        ssh_port: sources.ssh_port,
        objects: Vec::new(),
        namespace: None,
    })
}

/// Of `podman volume create`.
fn options(volume: Volume) -> Vec<String> {
    let options: &[&str] = match volume {
        // The folder must be root's from the first moment: whoever starts first would own it otherwise. A size here
        // makes podman 4.3 fail, and a plain volume on disk appears under that name later.
        Volume::Run => &["type=tmpfs", "device=tmpfs", "o=uid=0,gid=0,mode=0755"],
        // podman copies the image's content into an empty volume otherwise, while we seed it.
        Volume::Store | Volume::Home | Volume::Build | Volume::Config => &["nocopy"],
    };
    options.iter().map(|&option| option.to_owned()).collect()
}

/// What podman does not know, or takes for something else, goes.
fn pod_spec(template: PodSpec, sources: &Sources<'_>) -> PodSpec {
    let containers =
        template.containers.into_iter().map(|container| pod_container(container, sources)).collect();
    PodSpec {
        containers,
        hostname: Some(sources.builder.to_owned()),
        restart_policy: Some("OnFailure".to_owned()),
        share_process_namespace: template.share_process_namespace,
        volumes: Some(Volume::ALL.map(|volume| claim(volume, sources.builder)).to_vec()),
        ..PodSpec::default()
    }
}

fn claim(volume: Volume, builder: &str) -> PodVolume {
    PodVolume {
        name: volume.name().to_owned(),
        persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
            claim_name: volume.of(builder),
            read_only: None,
        }),
        ..PodVolume::default()
    }
}

fn pod_container(template: Container, sources: &Sources<'_>) -> Container {
    let agent = Agent::ALL.into_iter().find(|agent| agent.name() == template.name);
    let known = |name: &str| Volume::ALL.iter().any(|volume| volume.name() == name);
    let mounts =
        template.volume_mounts.unwrap_or_default().into_iter().filter(|mount| known(&mount.name)).collect();
    let env: Vec<_> = template
        .env
        .unwrap_or_default()
        .into_iter()
        .filter(|variable| variable.value_from.is_none() && variable.name != STATEFUL_SET_ENV)
        .collect();
    Container {
        name: template.name,
        image: Some(sources.config.builder.image.clone()),
        // `setup` has fetched or built it; a start must not depend on a registry.
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: template.command,
        args: template.args,
        env: (!env.is_empty()).then_some(env),
        working_dir: template.working_dir,
        ports: match agent {
            Some(Agent::User) => Some(vec![port("ssh", SSH_PORT, sources.ssh_port)]),
            Some(Agent::Maintenance) => {
                metrics_port(sources.config).map(|number| vec![port("metrics", number, number)])
            }
            _ => None,
        },
        resources: agent.and_then(|agent| sources.limits.limits.get(&agent)).map(resources),
        security_context: template.security_context.map(security),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// Reachable from this machine alone.
fn port(name: &str, of_pod: u16, of_machine: u16) -> ContainerPort {
    ContainerPort {
        container_port: i32::from(of_pod),
        host_port: Some(i32::from(of_machine)),
        host_ip: Some("127.0.0.1".to_owned()),
        name: Some(name.to_owned()),
        protocol: Some("TCP".to_owned()),
    }
}

/// Requests are for schedulers; podman would turn them into weights.
fn resources(limit: &Limit) -> ResourceRequirements {
    ResourceRequirements {
        limits: Some(BTreeMap::from([
            ("memory".to_owned(), Quantity(limit.memory.to_string().trim_end_matches('B').to_owned())),
            ("cpu".to_owned(), Quantity(limit.cpus.to_string())),
        ])),
        ..ResourceRequirements::default()
    }
}

/// podman has its own defaults for seccomp and masked paths of `/proc`. It would need volumes for `/tmp` that end with the pod, which
/// it does not have, so a container's own files can be written there.
fn security(template: SecurityContext) -> SecurityContext {
    SecurityContext {
        seccomp_profile: None,
        app_armor_profile: None,
        proc_mount: None,
        read_only_root_filesystem: None,
        ..template
    }
}
