//! What only a cluster has, for scenarios that need [`crate::engine::Need::Cluster`]: its administrator's view.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::call::Call;
use crate::output::Output;
use crate::setting::{self, setting};

/// Name of the namespace in which the scenarios make builders. It must be there, and theirs.
pub(crate) const NAMESPACE: &str = "TRAMPOLINE_TEST_NAMESPACE";
/// Kubeconfig of an administrator of the cluster.
pub(crate) const ADMIN: &str = "TRAMPOLINE_TEST_KUBECONFIG";
/// The program that made the cluster, where parts of it may be stopped: nothing else runs there meanwhile.
const LAB: &str = "TRAMPOLINE_TEST_LAB";
/// A node's label that no other has the same of.
pub const HOST: &str = "kubernetes.io/hostname";

static THINGS: AtomicU32 = AtomicU32::new(0);

fn variable(name: &str) -> String {
    setting::variable(name).unwrap_or_else(|problem| panic!("{problem}"))
}

/// A name for something of the whole cluster's that nobody else gives.
#[must_use]
pub fn unique(what: &str) -> String {
    format!("t-{what}-{}-{}", std::process::id(), THINGS.fetch_add(1, Ordering::Relaxed))
}

/// Namespace of all builders that ask for no other.
///
/// # Panics
/// Where there is no cluster.
#[must_use]
pub fn namespace() -> String {
    variable(NAMESPACE)
}

/// As the administrator, in [`namespace`].
#[must_use]
pub fn kubectl<'a>(args: impl IntoIterator<Item = &'a str>) -> Call {
    kubectl_in(&namespace(), args)
}

/// As the administrator.
#[must_use]
pub fn kubectl_in<'a>(namespace: &str, args: impl IntoIterator<Item = &'a str>) -> Call {
    Call::new("kubectl").args(["--kubeconfig", &variable(ADMIN), "--namespace", namespace]).args(args)
}

/// Runs a shell line in a container of a pod of this namespace, as that container's own user, past all that would notice.
#[must_use]
pub fn exec(pod: &str, container: &str, line: &str) -> Output {
    let call = kubectl(["exec", pod, "-c", container, "--"]);
    call.args(["/bin/sh", "-c", &format!("PATH=/nix/var/nix/profiles/default/bin:/bin\n{line}")]).run()
}

/// The administrator's kubeconfig, with all that it needs inside.
#[must_use]
pub fn admin() -> Value {
    let view = ["config", "view", "--raw", "--minify", "--flatten", "-o", "json"];
    kubectl(view).run().ok().json()
}

/// Writes the kubeconfig of whoever has this token.
///
/// # Panics
/// If the file cannot be written.
#[must_use]
pub fn kubeconfig(token: &str, file: &Path) -> PathBuf {
    let mut config = admin();
    config["users"][0]["user"] = json!({ "token": token });
    std::fs::write(file, config.to_string()).expect("a folder of ours");
    file.to_owned()
}

/// Writes an object into a namespace.
pub fn make(namespace: &str, object: &Value) {
    kubectl_in(namespace, ["apply", "-f", "-"]).input(object.to_string()).run().ok();
}

/// Makes a pod that sleeps in the builders' image, and waits until commands can be run in it. `spec` is all that it has
/// besides its one container, and `container` what that has besides.
pub fn make_sleeper(namespace: &str, name: &str, container: &Value, mut spec: Value) {
    let mut container = container.clone();
    container["name"] = "sleeper".into();
    container["image"] = (&*setting().image).into();
    container["imagePullPolicy"] = "IfNotPresent".into();
    container["command"] =
        json!(["/bin/sh", "-c", "PATH=/nix/var/nix/profiles/default/bin:/bin exec sleep 600"]);
    spec["terminationGracePeriodSeconds"] = 1.into();
    spec["containers"] = json!([container]);
    let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec });
    make(namespace, &pod);
    kubectl_in(namespace, ["wait", "--for=condition=Ready", "pod", name, "--timeout=60s"]).run().ok();
}

/// Something that is in no namespace; removed when it is dropped.
#[derive(Debug)]
pub struct Global {
    kind: &'static str,
    name: String,
}

impl Global {
    /// Makes it; the object has a kind and all but a name.
    ///
    /// # Panics
    /// If the object is none.
    #[must_use]
    pub fn new(kind: &'static str, mut object: Value) -> Self {
        let name = unique(kind);
        object["metadata"]["name"] = name.clone().into();
        Call::new("kubectl")
            .args(["--kubeconfig", &variable(ADMIN), "create", "-f", "-"])
            .input(object.to_string())
            .run()
            .ok();
        Self { kind, name }
    }

    /// A volume that is a folder of this host's (the node's label) alone: another would make an ordinary one of that name.
    #[must_use]
    pub fn volume(class: Option<&str>, folder: &Path, host: &str) -> Self {
        let volume = json!({
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {},
            "spec": {
                "storageClassName": class,
                "capacity": { "storage": "100Gi" },
                "accessModes": ["ReadWriteOnce"],
                "hostPath": { "path": folder, "type": "Directory" },
                "nodeAffinity": { "required": { "nodeSelectorTerms": [{
                    "matchExpressions": [{ "key": HOST, "operator": "In", "values": [host] }],
                }] } },
            },
        });
        Self::new("persistentvolume", volume)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Global {
    fn drop(&mut self) {
        let _ = kubectl(["delete", self.kind, &self.name, "--wait=false"]).run();
    }
}

/// A namespace of a scenario's own.
#[derive(Debug)]
pub struct Namespace(Global);

impl Namespace {
    /// With these labels.
    #[must_use]
    pub fn new(labels: &Value) -> Self {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "labels": labels } });
        let namespace = Self(Global::new("namespace", object));
        // The first pod is refused before.
        namespace.kubectl(["wait", "--for=create", "serviceaccount/default", "--timeout=30s"]).run().ok();
        namespace
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// Its name as a value of `trampoline.toml`.
    #[must_use]
    pub fn option(&self) -> String {
        format!("{:?}", self.name())
    }

    /// As the administrator.
    #[must_use]
    pub fn kubectl<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Call {
        kubectl_in(self.name(), args)
    }

    /// The token of a service account that may do what a Role says.
    #[must_use]
    pub fn token(&self, name: &str, rules: &Value) -> String {
        let metadata = json!({ "name": name });
        let account = json!({ "kind": "ServiceAccount", "name": name, "namespace": self.name() });
        let reference = json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name });
        let rbac = "rbac.authorization.k8s.io/v1";
        for object in [
            json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata }),
            json!({ "apiVersion": rbac, "kind": "Role", "metadata": metadata, "rules": rules }),
            json!({ "apiVersion": rbac, "kind": "RoleBinding", "metadata": metadata, "roleRef": reference,
                    "subjects": [account] }),
        ] {
            make(self.name(), &object);
        }
        self.kubectl(["create", "token", name]).run().ok().text().to_owned()
    }

    /// The same, as a kubeconfig in `folder`.
    ///
    /// # Panics
    /// If the file cannot be written.
    #[must_use]
    pub fn account(&self, name: &str, rules: &Value, folder: &Path) -> PathBuf {
        kubeconfig(&self.token(name, rules), &folder.join(format!("{name}.conf")))
    }
}

/// Waits until an object's field has a value, for two minutes at most.
pub fn wait_for(namespace: &str, object: &str, path: &str, value: &str) {
    let condition = format!("--for=jsonpath={{{path}}}={value}");
    kubectl_in(namespace, ["wait", &condition, object, "--timeout=120s"]).run().ok();
}

/// What an object's field says.
#[must_use]
pub fn field(object: &str, path: &str) -> String {
    kubectl(["get", object, "-o", &format!("jsonpath={{{path}}}")]).run().ok().stdout
}

/// Runs a command of the program that made the cluster.
///
/// # Panics
/// Where the cluster is somebody else's.
#[must_use]
pub fn lab(words: &[&str]) -> Output {
    Call::new(variable(LAB)).args(words).within(120).run()
}

/// Runs a shell line in the first node's namespaces.
///
/// # Panics
/// See [`lab`].
#[must_use]
pub fn on_node(line: &str) -> Output {
    Call::new(variable(LAB)).arg("shell").input(format!("set -eu\n{line}\n")).run()
}

/// Whether parts of the cluster may be stopped.
#[must_use]
pub fn has_lab() -> bool {
    std::env::var_os(LAB).is_some()
}

/// What is stopped for as long as this is held.
#[derive(Debug)]
pub struct Away(Vec<String>);

impl Away {
    /// The API server.
    #[must_use]
    pub fn apiserver() -> Self {
        lab(&["stop-apiserver"]).ok();
        Self(vec!["start-apiserver".to_owned()])
    }

    /// The API server is there, and does not answer.
    #[must_use]
    pub fn silent_apiserver() -> Self {
        lab(&["stop-apiserver", "--hang"]).ok();
        Self(vec!["start-apiserver".to_owned()])
    }

    /// The kubelet of a node: `node-1`.
    #[must_use]
    pub fn kubelet(node: &str) -> Self {
        let number = node.trim_start_matches("node-").to_owned();
        lab(&["stop-kubelet", &number]).ok();
        Self(vec!["start-kubelet".to_owned(), number])
    }
}

impl Drop for Away {
    fn drop(&mut self) {
        let words: Vec<&str> = self.0.iter().map(String::as_str).collect();
        let back = lab(&words);
        assert!(back.code == 0 || std::thread::panicking(), "{back}");
    }
}
