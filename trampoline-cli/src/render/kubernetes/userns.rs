//! The pod in a user namespace: what `container/userns` patches in the template, patched in its types.

use contract::config::Config;
use contract::handshake::Isolation;
use contract::places::{CONFIG_DIR, Container as Agent, NIX};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, PodSpec, SeccompProfile, SecurityContext, VolumeMount,
};

use crate::engine::Volume;
use crate::render::{PREPARE, SEED};

/// What root of the daemon container may do to the pod's own ids and files. Nix needs each, and none counts outside of the pod.
const CAPABILITIES: [&str; 5] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"];

/// No privilege on the node: the volume is mounted in its place at once, and another container fills it before.
pub(super) fn apply(spec: &mut PodSpec, config: &Config) {
    spec.host_users = Some(false);
    for container in spec.init_containers.iter_mut().flatten() {
        if container.name == PREPARE {
            prepare(container);
        }
    }
    for container in &mut spec.containers {
        if container.name == Agent::Daemon.name() {
            daemon(container, config);
        }
    }
}

fn prepare(container: &mut Container) {
    // The daemon's container does later what wants more. Root is nobody outside of the pod, and here not even over the user's files.
    let drop = Some(vec!["ALL".to_owned()]);
    container.security_context.get_or_insert_default().capabilities = Some(Capabilities { drop, add: None });
    container.command.get_or_insert_default().push(SEED.to_owned());
    container.volume_mounts.get_or_insert_default().push(VolumeMount {
        name: Volume::Config.name().to_owned(),
        mount_path: CONFIG_DIR.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
}

fn daemon(container: &mut Container, config: &Config) {
    let isolation = ["--isolation", Isolation::Userns.name()].map(str::to_owned);
    container.command.get_or_insert_default().extend(isolation);
    for mount in container.volume_mounts.iter_mut().flatten() {
        if mount.name == Volume::Store.name() {
            NIX.clone_into(&mut mount.mount_path);
        }
    }
    let security = container.security_context.take().unwrap_or_default();
    container.security_context = Some(SecurityContext {
        privileged: None,
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            drop: Some(vec!["ALL".to_owned()]),
            add: Some(CAPABILITIES.map(str::to_owned).to_vec()),
        }),
        // A build's sandbox mounts a `/proc` of its own, which the kernel refuses where parts of ours are hidden.
        proc_mount: Some("Unmasked".to_owned()),
        // Absent, and not `Unconfined`: that is no baseline.
        seccomp_profile: config.daemon.seccomp_profile().map(|path| SeccompProfile {
            type_: "Localhost".to_owned(),
            localhost_profile: Some(path.to_owned()),
        }),
        ..security
    });
}
