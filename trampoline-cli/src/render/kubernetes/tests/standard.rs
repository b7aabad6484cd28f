//! The Pod Security Standards, control by control.
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>

use serde_json::{Value, json};

/// What a field may be.
pub(super) enum Allowed {
    /// It must be there, and one of these.
    Required(&'static [&'static str]),
    /// One of these, where it is there.
    Only(&'static [&'static str]),
    /// Not there at all, or nothing but zeros.
    Absent,
}
use Allowed::{Absent, Only, Required};

/// One control: its name in the standard, the field, what it may be.
pub(super) type Control = (&'static str, &'static str, Allowed);

/// "Restricted" (which includes "baseline"), for a container. Values are JSON.
pub(super) const OF_A_CONTAINER: [Control; 16] = [
    ("Privilege Escalation", "securityContext/allowPrivilegeEscalation", Required(&["false"])),
    ("Running as Non-root", "securityContext/runAsNonRoot", Required(&["true"])),
    ("Seccomp", "securityContext/seccompProfile/type", Required(&["\"RuntimeDefault\"", "\"Localhost\""])),
    ("Capabilities", "securityContext/capabilities/drop", Required(&["[\"ALL\"]"])),
    ("Capabilities", "securityContext/capabilities/add", Only(&["[]", "[\"NET_BIND_SERVICE\"]"])),
    ("Privileged Containers", "securityContext/privileged", Only(&["false"])),
    ("HostProcess", "securityContext/windowsOptions/hostProcess", Only(&["false"])),
    ("/proc Mount Type", "securityContext/procMount", Only(&["\"Default\""])),
    (
        "SELinux",
        "securityContext/seLinuxOptions/type",
        Only(&[
            "\"\"",
            "\"container_t\"",
            "\"container_init_t\"",
            "\"container_kvm_t\"",
            "\"container_engine_t\"",
        ]),
    ),
    ("SELinux", "securityContext/seLinuxOptions/user", Absent),
    ("SELinux", "securityContext/seLinuxOptions/role", Absent),
    ("AppArmor", "securityContext/appArmorProfile/type", Only(&["\"RuntimeDefault\"", "\"Localhost\""])),
    ("Host Ports", "ports/*/hostPort", Absent),
    ("Host Probes", "livenessProbe/*/host", Absent),
    ("Host Probes", "readinessProbe/*/host", Absent),
    ("Host Probes", "startupProbe/*/host", Absent),
];

/// The same for the pod, whose fields all containers share.
pub(super) const OF_THE_POD: [Control; 11] = [
    ("Host Namespaces", "hostNetwork", Only(&["false"])),
    ("Host Namespaces", "hostPID", Only(&["false"])),
    ("Host Namespaces", "hostIPC", Only(&["false"])),
    ("HostProcess", "securityContext/windowsOptions/hostProcess", Only(&["false"])),
    ("SELinux", "securityContext/seLinuxOptions/user", Absent),
    ("SELinux", "securityContext/seLinuxOptions/role", Absent),
    ("Running as Non-root", "securityContext/runAsNonRoot", Only(&["true"])),
    ("Running as Non-root user", "securityContext/runAsUser", Absent),
    ("Sysctls", "securityContext/sysctls", Absent),
    ("Seccomp", "securityContext/seccompProfile/type", Only(&["\"RuntimeDefault\"", "\"Localhost\""])),
    ("Host Path Volumes", "volumes/*/hostPath", Absent),
];

/// "Baseline", for a container.
pub(super) const BASELINE_OF_A_CONTAINER: [Control; 13] = [
    ("HostProcess", "securityContext/windowsOptions/hostProcess", Only(&["false"])),
    ("Privileged Containers", "securityContext/privileged", Only(&["false"])),
    (
        "Capabilities",
        "securityContext/capabilities/add/*",
        Only(&[
            "\"AUDIT_WRITE\"",
            "\"CHOWN\"",
            "\"DAC_OVERRIDE\"",
            "\"FOWNER\"",
            "\"FSETID\"",
            "\"KILL\"",
            "\"MKNOD\"",
            "\"NET_BIND_SERVICE\"",
            "\"SETFCAP\"",
            "\"SETGID\"",
            "\"SETPCAP\"",
            "\"SETUID\"",
            "\"SYS_CHROOT\"",
        ]),
    ),
    ("Host Ports", "ports/*/hostPort", Absent),
    ("Host Probes", "livenessProbe/*/host", Absent),
    ("Host Probes", "readinessProbe/*/host", Absent),
    ("Host Probes", "startupProbe/*/host", Absent),
    ("Host Probes", "lifecycle/*/*/host", Absent),
    ("AppArmor", "securityContext/appArmorProfile/type", Only(&["\"RuntimeDefault\"", "\"Localhost\""])),
    ("SELinux", "securityContext/seLinuxOptions/user", Absent),
    ("SELinux", "securityContext/seLinuxOptions/role", Absent),
    ("Seccomp", "securityContext/seccompProfile/type", Only(&["\"RuntimeDefault\"", "\"Localhost\""])),
    // Since version 1.35 anything goes in a pod with `hostUsers: false`, which is held apart.
    ("/proc Mount Type", "securityContext/procMount", Only(&["\"Default\"", "\"Unmasked\""])),
];

/// Types of volumes that "restricted" allows.
pub(super) const VOLUME_TYPES: [&str; 8] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// All values of a path; `*` is every element, or every member.
pub(super) fn values<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    path.split('/').fold(vec![value], |values, step| {
        values
            .into_iter()
            .flat_map(|value| match (step, value) {
                ("*", Value::Array(items)) => items.iter().collect(),
                ("*", Value::Object(map)) => map.values().collect(),
                _ => value.get(step).into_iter().collect::<Vec<_>>(),
            })
            .collect()
    })
}

/// Controls that a value does not meet.
pub(super) fn violations(value: &Value, controls: &[Control]) -> Vec<String> {
    let mut wrong = Vec::new();
    for (control, path, allowed) in controls {
        let found = values(value, path);
        let one_of =
            |accepted: &[&str]| found.iter().all(|value| accepted.contains(&value.to_string().as_str()));
        let meets = match allowed {
            Required(accepted) => !found.is_empty() && one_of(accepted),
            Only(accepted) => one_of(accepted),
            Absent => found.iter().all(|value| **value == json!(0)),
        };
        if !meets {
            wrong.push(format!("{control}: {path} is {found:?}"));
        }
    }
    wrong
}
