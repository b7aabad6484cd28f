//! A cluster, by `kubectl` and as its administrator: the client's own user may be allowed less.

mod small;

use serde_json::{Value, json};

use super::{Engine, Held, Need, pod_name, store_volume, volume};
use crate::call::Call;
use crate::cluster::{self, ADMIN, NAMESPACE, exec, kubectl};
use crate::output::Output;
use crate::processes;
use crate::setting::variable;

use small::Small;

/// A program that brings an image of this machine's podman, named by its last argument, to the nodes.
const LOAD: &str = "TRAMPOLINE_TEST_LOAD";

/// `isolation` of all builders that ask for none; not set: that of the product.
const ISOLATION: &str = "TRAMPOLINE_TEST_ISOLATION";

/// The cluster of the environment.
#[derive(Debug)]
pub(super) struct Cluster;

impl Cluster {
    /// See the constants of this module.
    ///
    /// # Errors
    /// Which variable is missing.
    pub(super) fn from_environment() -> Result<&'static dyn Engine, String> {
        variable(ADMIN)?;
        variable(NAMESPACE)?;
        Ok(&Self)
    }
}

fn only_pod(builder: &str) -> String {
    format!("{}-0", pod_name(builder))
}

/// A claim as the client would make it but for what `spec` adds.
fn make_claim(builder: &str, which: &str, mut spec: Value) {
    // No claim that is there already shrinks.
    let size = if which == "build" { "20Gi" } else { "10Gi" };
    spec["accessModes"] = json!(["ReadWriteOnce"]);
    spec["resources"] = json!({ "requests": { "storage": size } });
    cluster::make(
        &cluster::namespace(),
        &json!({
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {
                "name": volume(builder, which),
                "labels": { "io.trampoline.builder": builder, "app.kubernetes.io/name": "nix-trampoline" },
            },
            "spec": spec,
        }),
    );
}

impl Engine for Cluster {
    fn meets(&self, need: Need) -> bool {
        match need {
            Need::Podman => false,
            Need::Lab => cluster::has_lab(),
            Need::Any | Need::Root | Need::Cluster => true,
        }
    }

    fn options(&self) -> Vec<(String, String)> {
        let mut options = vec![
            ("builder.engine".to_owned(), "\"kubernetes\"".to_owned()),
            ("kubernetes.namespace".to_owned(), format!("{:?}", cluster::namespace())),
        ];
        // Several builders at once on a node with two CPUs.
        for container in ["daemon", "user", "maintenance", "shutdown-monitor"] {
            options.push((format!("builder.{container}.cpu-request"), "0.02".to_owned()));
            options.push((format!("builder.{container}.memory-request"), "\"64Mi\"".to_owned()));
        }
        if let Ok(isolation) = variable(ISOLATION) {
            options.push(("daemon.isolation".to_owned(), format!("{isolation:?}")));
        }
        options
    }

    fn wait_stopped(&self, builder: &str, seconds: u64) {
        let deadline = format!("--timeout={seconds}s");
        let wait = ["wait", "--for=delete", "pod", &only_pod(builder), &deadline];
        kubectl(wait).within(seconds + 5).run().ok();
    }

    fn vanish(&self, builder: &str) {
        // Without it, no pod comes back.
        let set = ["delete", "statefulset", &pod_name(builder), "--cascade=orphan", "--ignore-not-found"];
        kubectl(set).run().ok();
        let delete = ["delete", "pod", &only_pod(builder), "--grace-period=1", "--ignore-not-found"];
        kubectl(delete).run().ok();
    }

    fn signal(&self, builder: &str, container: &str, signal: &str) {
        let agent = match container {
            "daemon" => "daemon-init",
            "user" => "user-init",
            // The kernel keeps 15 characters.
            "maintenance" => "maintenance-age",
            _ => "shutdown-monito",
        };
        // The exec itself may end with the container.
        // `pause` is the parent of no container's first process, so they have none in this namespace of processes.
        let line = format!("kill -{signal} $({})", processes::named(agent, "[ \"$parent\" = 0 ]"));
        // From within, as its own user: root of the daemon container may have no power over others.
        let _ = exec(&only_pod(builder), container, &line);
    }

    fn kill(&self, builder: &str, container: &str) {
        self.crash(builder, container);
    }

    fn revive(&self, builder: &str, container: &str) {
        panic!("the kubelet alone starts containers: {container} of {builder}")
    }

    fn terminate(&self, builder: &str) {
        // Whoever deletes the pod alone gets another one.
        kubectl(["scale", "statefulset", &pod_name(builder), "--replicas=0"]).run().ok();
    }

    fn inside(&self, builder: &str, container: &str, line: &str) -> Output {
        exec(&only_pod(builder), container, line)
    }

    fn make_store(&self, builder: &str, options: &[String], line: &str) {
        assert!(options.is_empty(), "a cluster's claims take no options: {options:?}");
        make_claim(builder, "store", json!({}));
        if !line.is_empty() {
            self.with_store(builder, line).ok();
        }
    }

    fn make_volume(&self, builder: &str, which: &str, _options: &[String]) {
        panic!("the volume {which} of {builder} is the cluster's to make")
    }

    fn make_small(&self, builder: &str, which: &str, options: &str) -> Held {
        let small = Small::new(options);
        make_claim(builder, which, json!({ "storageClassName": "", "volumeName": small.name() }));
        let claim = format!("pvc/{}", volume(builder, which));
        cluster::wait_for(&cluster::namespace(), &claim, ".status.phase", "Bound");
        Box::new(small)
    }

    fn with_store(&self, builder: &str, line: &str) -> Output {
        let name = format!("t-look-{builder}");
        cluster::make_sleeper(
            &cluster::namespace(),
            &name,
            &json!({ "volumeMounts": [{ "name": "store", "mountPath": "/volume" }] }),
            json!({ "volumes": [{
                "name": "store",
                "persistentVolumeClaim": { "claimName": store_volume(builder) },
            }] }),
        );
        let output = exec(&name, "sleeper", line);
        kubectl(["delete", "pod", &name]).run().ok();
        output
    }

    fn store_folder(&self, builder: &str) -> String {
        panic!("the store of {builder} is no folder of this machine")
    }

    fn derive_image(&self, name: &str, from: &str, line: &str) {
        super::podman::Podman::Own.derive_image(name, from, line);
        let load = variable(LOAD).unwrap_or_else(|problem| panic!("{problem}"));
        Call::new(load).args(["load", name]).run().ok();
    }

    fn remove_image(&self, name: &str) {
        super::podman::Podman::Own.remove_image(name);
    }

    fn left(&self, builder: &str) -> Vec<String> {
        let kinds = "statefulset,pod,service,serviceaccount,role,rolebinding,configmap,persistentvolumeclaim,\
                     poddisruptionbudget,networkpolicy";
        let of_it = format!("io.trampoline.builder={builder}");
        let get = kubectl(["get", kinds, "-l", &of_it, "-o", "name"]).run().ok();
        get.stdout.lines().map(|line| line.rsplit('/').next().unwrap_or(line).to_owned()).collect()
    }

    fn logs(&self, builder: &str) -> Output {
        // `prepare` is one of all; one that has not begun yet keeps nobody from the others.
        kubectl(["logs", &only_pod(builder), "--all-containers", "--ignore-errors"]).run()
    }

    fn keeps_logs(&self) -> bool {
        // They go with the pod.
        false
    }

    fn pods(&self, builder: &str) -> usize {
        let of_it = format!("io.trampoline.builder={builder}");
        kubectl(["get", "pod", "-l", &of_it, "-o", "name"]).run().ok().stdout.lines().count()
    }

    fn remove_store(&self, builder: &str) {
        self.remove_volume(builder, "store");
    }

    fn remove_volume(&self, builder: &str, which: &str) {
        let _ = kubectl(["delete", "pvc", &volume(builder, which), "--ignore-not-found"]).run();
    }
}
