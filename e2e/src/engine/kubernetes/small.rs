//! A small file system on a node, to be a builder's volume.

use serde_json::json;

use crate::cluster::{self, Global, kubectl};

/// A tmpfs that a pod has mounted for its node, and unmounts when it ends, whoever ends it.
#[derive(Debug)]
pub(super) struct Small {
    pod: String,
    volume: Global,
}

impl Small {
    /// With these options.
    pub(super) fn new(options: &str) -> Self {
        let pod = cluster::unique("small");
        let folder = format!("/tmp/{pod}");
        // A sleeper is ready when the first has ended.
        let mount = format!("mkdir {folder} && mount -t tmpfs -o {options} {pod} {folder}");
        let unmount = format!("umount -l {folder}; rmdir {folder}");
        let hook = |line: &str| json!({ "exec": { "command": ["/bin/busybox", "sh", "-c", line] } });
        cluster::make_sleeper(
            &cluster::namespace(),
            &pod,
            &json!({
                "securityContext": { "privileged": true },
                "lifecycle": { "postStart": hook(&mount), "preStop": hook(&unmount) },
                "volumeMounts": [{ "name": "of-node", "mountPath": "/tmp", "mountPropagation": "Bidirectional" }],
            }),
            json!({
                "restartPolicy": "Never",
                "volumes": [{ "name": "of-node", "hostPath": { "path": "/tmp", "type": "Directory" } }],
            }),
        );
        let node = cluster::field(&format!("pod/{pod}"), ".spec.nodeName");
        let label = format!(".metadata.labels.{}", cluster::HOST.replace('.', "\\."));
        let host = cluster::field(&format!("node/{node}"), &label);
        let volume = Global::volume(None, folder.as_ref(), &host);
        Self { pod, volume }
    }

    /// What a claim asks for to have it.
    pub(super) fn name(&self) -> &str {
        self.volume.name()
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = kubectl(["delete", "pod", &self.pod]).run();
    }
}
