use contract::config::Config;
use serde_json::{Value, json};

use super::*;
use crate::render::limits::Resolved;
use crate::render::strict;

/// The rendering of this trampoline.toml.
fn rendered(builder: &str, text: &str) -> Result<Rendering> {
    let config = Config::parse(text, "trampoline.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let sources = Sources {
        builder,
        config: &config,
        text,
        ca_bundle: Some("PEM"),
        owner: "alice@laptop",
        ssh_port: 22_222,
        limits: &Resolved::default(),
    };
    render(&sources, config.kubernetes.namespace.as_deref())
}

fn right(text: &str) -> Rendering {
    rendered("gpu", text).unwrap_or_else(|error| panic!("{error}"))
}

/// The object of this kind, the first of its name's end.
fn object(rendering: &Rendering, kind: &str, end: &str) -> Value {
    let found = rendering
        .objects
        .iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"].as_str().unwrap().ends_with(end));
    found.unwrap_or_else(|| panic!("no {kind} {end}")).clone()
}

fn pod(rendering: &Rendering) -> Value {
    object(rendering, "StatefulSet", "")["spec"]["template"]["spec"].clone()
}

fn container(pod: &Value, name: &str) -> Value {
    let all = pod["containers"].as_array().unwrap().iter().chain(pod["initContainers"].as_array().unwrap());
    all.into_iter().find(|container| container["name"] == name).unwrap().clone()
}

/// Everything of ours in `value` that is not in `other`, as a set of paths.
fn without_notes(mut object: Value) -> Value {
    for place in ["/metadata", "/spec/template/metadata"] {
        if let Some(metadata) = object.pointer_mut(place) {
            metadata.as_object_mut().unwrap().remove("annotations");
        }
    }
    object
}

/// `kubectl apply -k container/` and the client make the same builder: whoever applied one is adopted by the other.
#[test]
fn by_default_it_is_the_template() {
    let rendering = rendered(TEMPLATE_BUILDER, "").unwrap();
    let template = template::objects().unwrap();
    assert_eq!(rendering.objects.len(), template.len());
    for (ours, mut theirs) in rendering.objects.into_iter().zip(template) {
        let mut ours = without_notes(ours);
        if theirs["metadata"]["name"] == "trampoline-builder" && theirs["kind"] == "ConfigMap" {
            ours["data"] = Value::Null;
            theirs["data"] = Value::Null;
        }
        assert_eq!(ours, theirs);
    }
}

#[test]
fn nothing_of_the_template_is_unknown_to_the_types() {
    for object in template::objects().unwrap() {
        let text = object.to_string();
        let problem = match object["kind"].as_str().unwrap() {
            "StatefulSet" => strict::read::<k8s_openapi::api::apps::v1::StatefulSet>(&object).err(),
            "ServiceAccount" => strict::read::<k8s_openapi::api::core::v1::ServiceAccount>(&object).err(),
            "ConfigMap" => strict::read::<k8s_openapi::api::core::v1::ConfigMap>(&object).err(),
            "PersistentVolumeClaim" => {
                strict::read::<k8s_openapi::api::core::v1::PersistentVolumeClaim>(&object).err()
            }
            "Service" => strict::read::<k8s_openapi::api::core::v1::Service>(&object).err(),
            "Role" => strict::read::<k8s_openapi::api::rbac::v1::Role>(&object).err(),
            "RoleBinding" => strict::read::<k8s_openapi::api::rbac::v1::RoleBinding>(&object).err(),
            "NetworkPolicy" => strict::read::<k8s_openapi::api::networking::v1::NetworkPolicy>(&object).err(),
            "PodDisruptionBudget" => {
                strict::read::<k8s_openapi::api::policy::v1::PodDisruptionBudget>(&object).err()
            }
            other => panic!("{other}"),
        };
        assert_eq!(problem, None, "{text}");
    }
}

#[test]
fn the_default_builders_name_is_nowhere_in_another() {
    let rendering = right("");
    for object in &rendering.objects {
        let text = object.to_string();
        assert!(!text.contains("trampoline-builder") && !text.contains(r#":"builder""#), "{text}");
        assert_eq!(object["metadata"]["labels"]["io.trampoline.builder"], "gpu");
        assert_eq!(object["metadata"]["annotations"]["io.trampoline.owner"], "alice@laptop");
        assert_eq!(object["metadata"].get("namespace"), None, "that of the context");
    }
    let names: Vec<&str> =
        rendering.objects.iter().map(|object| object["metadata"]["name"].as_str().unwrap()).collect();
    for name in ["", "-store", "-home", "-status"] {
        assert!(names.contains(&format!("trampoline-gpu{name}").as_str()), "{names:?}");
    }
    let monitor = container(&pod(&rendering), "shutdown-monitor");
    assert!(
        monitor["env"]
            .as_array()
            .unwrap()
            .contains(&json!({ "name": "TRAMPOLINE_STATEFULSET", "value": "trampoline-gpu" })),
        "{monitor}"
    );
}

#[test]
fn nobody_who_applies_it_wakes_or_stops_a_builder() {
    let set = object(&right("[kubernetes.pod-patch.spec]\npriority = 1"), "StatefulSet", "");
    assert!(set["spec"].get("replicas").is_none());
    assert!(set["spec"].get("volumeClaimTemplates").is_none(), "they can never be changed");
    assert_eq!(set["spec"]["updateStrategy"], json!({ "type": "OnDelete" }));
}

#[test]
fn the_digest_covers_the_pod_and_nothing_else() {
    let digest = |text: &str| {
        let rendering = right(text);
        let set = object(&rendering, "StatefulSet", "");
        let noted = &set["metadata"]["annotations"]["io.trampoline.digest"];
        assert_eq!(noted, &set["spec"]["template"]["metadata"]["annotations"]["io.trampoline.digest"]);
        assert_eq!(noted, rendering.digest.as_str());
        rendering.digest
    };
    let default = digest("");
    for same in [
        "# comment",
        "[builder]\nstore-size = \"20Gi\"",
        "[kubernetes]\nopen-ports = [\"80\"]",
        "[user]\nkeep-jobs = 3",
    ] {
        assert_eq!(digest(same), default, "{same}");
    }
    for other in [
        "[builder]\nimage = \"a:1\"",
        "[builder.user]\ncpu-request = 0.02",
        "[kubernetes]\nlabels = { a = \"b\" }",
        "[kubernetes]\nenv = { A = \"b\" }",
        "[kubernetes.pod-patch.spec]\npriority = 1",
        "[shutdown]\ngrace = \"2h\"",
    ] {
        assert_ne!(digest(other), default, "{other}");
    }
}

#[test]
fn every_option_reaches_its_field() {
    let rendering = right(SURFACE);
    let pod = pod(&rendering);
    for (field, value) in [
        ("nodeSelector", json!({ "disk": "nvme", "kubernetes.io/arch": "arm64" })),
        ("tolerations", json!([{ "key": "builders", "operator": "Exists" }])),
        ("priorityClassName", json!("low")),
        ("runtimeClassName", json!("runc")),
        ("serviceAccountName", json!("builders")),
        ("imagePullSecrets", json!([{ "name": "one" }, { "name": "two" }])),
        ("dnsPolicy", json!("None")),
        ("dnsConfig", json!({ "nameservers": ["10.0.0.53"] })),
        ("terminationGracePeriodSeconds", json!(7230)),
        (
            "hostAliases",
            json!([{ "ip": "10.0.0.7", "hostnames": ["a.example", "b.example"] }, { "ip": "::1", "hostnames": ["c"] }]),
        ),
        (
            "affinity",
            json!({ "podAntiAffinity": { "requiredDuringSchedulingIgnoredDuringExecution": [{ "topologyKey": "rack" }] } }),
        ),
    ] {
        assert_eq!(pod[field], value, "{field}");
    }
    for name in ["prepare", "daemon", "user", "maintenance", "shutdown-monitor"] {
        let container = container(&pod, name);
        assert_eq!(container["image"], "registry.example/nix:1");
        assert_eq!(container["imagePullPolicy"], "Always");
        assert!(
            container["env"].as_array().unwrap().contains(&json!({ "name": "TZ", "value": "UTC" })),
            "{name}"
        );
        let sees = |volume: &str| {
            container["volumeMounts"].as_array().unwrap().iter().any(|mount| mount["name"] == volume)
        };
        assert_eq!(sees("src"), name == "maintenance", "{name}");
        assert_eq!(sees("both"), ["daemon", "user"].contains(&name), "{name}");
    }
    let daemon = container(&pod, "daemon");
    assert_eq!(
        daemon["resources"],
        json!({ "limits": { "cpu": "2500m", "memory": "3Gi" }, "requests": { "cpu": "250m", "memory": "1500k" } })
    );
    let user = container(&pod, "user");
    assert_eq!(user["resources"]["requests"], json!({ "cpu": "10m", "memory": "64Mi" }));
    assert!(pod["volumes"].as_array().unwrap().contains(&json!({ "name": "src", "emptyDir": {} })));
    let mount = container(&pod, "maintenance")["volumeMounts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!(mount, json!({ "name": "src", "mountPath": "/src", "subPath": "a", "readOnly": true }));

    for (end, size) in [("-store", "1500Mi"), ("-home", "7G")] {
        let claim = object(&rendering, "PersistentVolumeClaim", end);
        assert_eq!(
            claim["spec"],
            json!({ "accessModes": ["ReadWriteOncePod"], "storageClassName": "fast", "resources": { "requests": { "storage": size } } })
        );
    }
    let policy = object(&rendering, "NetworkPolicy", "");
    assert_eq!(
        policy["spec"]["ingress"],
        json!([{ "ports": [{ "port": "ssh" }, { "port": 9100 }, { "port": "metrics" }] }])
    );
    // The user's own account: it is not made, and it alone is let scale.
    assert!(!rendering.objects.iter().any(|object| object["kind"] == "ServiceAccount"));
    assert_eq!(
        object(&rendering, "RoleBinding", "")["subjects"],
        json!([{ "kind": "ServiceAccount", "name": "builders", "namespace": "team" }])
    );
    for object in &rendering.objects {
        assert_eq!(object["metadata"]["namespace"], "team");
        assert_eq!(object["metadata"]["labels"]["example.org/team"], "compilers");
        assert_eq!(object["metadata"]["annotations"]["example.org/contact"], "us");
    }
    let template = &object(&rendering, "StatefulSet", "")["spec"]["template"]["metadata"];
    assert_eq!(template["labels"]["example.org/team"], "compilers");
    assert_eq!(template["annotations"]["example.org/contact"], "us");
    let map = object(&rendering, "ConfigMap", "gpu");
    assert_eq!(map["data"], json!({ "trampoline.toml": SURFACE, "ca-bundle.pem": "PEM" }));
    assert_eq!(object(&rendering, "ConfigMap", "-status").get("data"), None, "that is the monitor's");
}

const SURFACE: &str = r#"
[builder]
image = "registry.example/nix:1"
system = "aarch64-linux"
store-size = "1500Mi"
home-size = "7G"
[builder.daemon]
memory = "3Gi"
cpus = 2.5
memory-request = "1500K"
cpu-request = "250m"
[kubernetes]
namespace = "team"
storage-class = "fast"
access-mode = "ReadWriteOncePod"
node-selector = { disk = "nvme" }
tolerations = [{ key = "builders", operator = "Exists" }]
affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution = [{ topologyKey = "rack" }]
priority-class = "low"
runtime-class = "runc"
service-account = "builders"
pull-secrets = ["one", "two"]
image-pull-policy = "Always"
labels = { "example.org/team" = "compilers" }
annotations = { "example.org/contact" = "us" }
env = { TZ = "UTC" }
host-aliases = { "a.example" = "10.0.0.7", "b.example" = "10.0.0.7", c = "::1" }
dns-policy = "None"
dns = { nameservers = ["10.0.0.53"] }
open-ports = ["9100", "metrics"]
extra-volumes = [
  { name = "src", mountPath = "/src", subPath = "a", readOnly = true, containers = ["maintenance"], emptyDir = {} },
  { name = "both", mountPath = "/both", hostPath = { path = "/both" } },
]
[shutdown]
grace = "2h"
"#;

#[test]
fn a_patch_is_merged_last() {
    let rendering = right(
        r#"
[kubernetes]
tolerations = [{ key = "a", operator = "Exists" }]
[kubernetes.pod-patch.metadata.annotations]
"sidecar.example/inject" = "false"
[kubernetes.pod-patch.spec]
schedulerName = "mine"
tolerations = [{ key = "b", operator = "Exists" }]
[[kubernetes.pod-patch.spec.containers]]
name = "user"
env = [{ name = "HOME", "$patch" = "delete" }, { name = "A", valueFrom = { fieldRef = { fieldPath = "status.podIP" } } }]
[[kubernetes.pod-patch.spec.containers]]
name = "maintenance"
"$patch" = "delete"
[[kubernetes.pod-patch.spec.containers]]
name = "metrics"
image = "exporter:1"
[[kubernetes.pod-patch.spec.volumes]]
name = "run"
"$retainKeys" = ["name", "emptyDir"]
emptyDir = { sizeLimit = "1Gi" }
"#,
    );
    let pod = pod(&rendering);
    assert_eq!(pod["schedulerName"], "mine");
    assert_eq!(pod["tolerations"], json!([{ "key": "b", "operator": "Exists" }]));
    let names: Vec<&Value> = pod["containers"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(names, ["daemon", "user", "shutdown-monitor", "metrics"]);
    let env: Vec<Value> =
        container(&pod, "user")["env"].as_array().unwrap().iter().map(|e| e["name"].clone()).collect();
    assert_eq!(env, ["USER", "NIX_REMOTE", "A"]);
    let volumes = pod["volumes"].as_array().unwrap();
    assert!(
        volumes.contains(&json!({ "name": "run", "emptyDir": { "medium": "Memory", "sizeLimit": "1Gi" } })),
        "{volumes:?}"
    );
    let metadata = &object(&rendering, "StatefulSet", "")["spec"]["template"]["metadata"];
    assert_eq!(metadata["annotations"]["sidecar.example/inject"], "false");
}

#[test]
fn what_the_api_does_not_know_is_refused_by_line_and_key() {
    for (text, message) in [
        (
            "tolerations = [{ key = \"a\" }, { operater = \"Exists\" }]",
            "trampoline.toml:2: kubernetes.tolerations.1.operater: no such field",
        ),
        (
            "tolerations = [\n  { tolerationSeconds = \"5\" },\n]",
            "trampoline.toml:3: kubernetes.tolerations.0.tolerationSeconds: ",
        ),
        (
            "affinity = { nodeAfinity = {} }",
            "trampoline.toml:2: kubernetes.affinity.nodeAfinity: no such field",
        ),
        ("dns = { nameserver = [] }", "trampoline.toml:2: kubernetes.dns.nameserver: no such field"),
        (
            "[kubernetes.pod-patch]\nspecs = {}",
            "trampoline.toml:3: kubernetes.pod-patch.specs: no such field",
        ),
        (
            "[[kubernetes.pod-patch.spec.containers]]\nname = \"user\"\nsecurityContext.privilegd = true",
            "trampoline.toml:4: kubernetes.pod-patch.spec.containers.0.securityContext.privilegd: no such field",
        ),
        (
            "[[kubernetes.pod-patch.spec.containers]]\nname = \"demon\"\nworkingDir = \"/\"",
            "trampoline.toml:2: kubernetes.pod-patch: the container demon has no image",
        ),
        (
            "[[kubernetes.pod-patch.spec.containers]]\nimage = \"a\"",
            "trampoline.toml:2: kubernetes.pod-patch.spec.containers.0: has no `name`",
        ),
        (
            "[[kubernetes.pod-patch.spec.containers]]\nname = \"user\"\n\"$patch\" = \"delete\"",
            "kubernetes.pod-patch: takes the container user from the pod",
        ),
        (
            "[kubernetes.pod-patch.metadata.labels]\n\"io.trampoline.builder\" = \"x\"",
            "kubernetes.pod-patch: takes the label io.trampoline.builder from the pod",
        ),
        (
            "[kubernetes.pod-patch.spec]\n\"$patch\" = \"remove\"",
            "trampoline.toml:3: kubernetes.pod-patch.spec.\"$patch\": ",
        ),
        ("extra-volumes = [{ mountPath = \"/a\" }]", "kubernetes.extra-volumes.0: has no `name`"),
        (
            "extra-volumes = [{ name = \"a\", mountPath = \"a\" }]",
            "kubernetes.extra-volumes.0.mountPath: must be a path",
        ),
        ("extra-volumes = [{ name = \"a\" }]", "kubernetes.extra-volumes.0.mountPath: must be a path"),
        (
            "extra-volumes = [{ name = \"store\", mountPath = \"/a\" }]",
            "kubernetes.extra-volumes.0.name: store is a volume of the builder's own",
        ),
        (
            "extra-volumes = [{ name = \"a\", mountPath = \"/nix/store\" }]",
            "kubernetes.extra-volumes.0.mountPath: /nix is the builder's own",
        ),
        (
            "extra-volumes = [{ name = \"a\", mountPath = \"/a\", containers = [\"users\"] }]",
            "kubernetes.extra-volumes.0.containers: unknown variant `users`",
        ),
        (
            "extra-volumes = [{ name = \"a\", mountPath = \"/a\", emptydir = {} }]",
            "kubernetes.extra-volumes.0.emptydir: no such field",
        ),
        (
            "extra-volumes = [{ name = \"a\", mountPath = \"/a\" }, { name = \"a\", mountPath = \"/b\" }]",
            "kubernetes.extra-volumes.1.name: another volume has this name",
        ),
    ] {
        let text = if text.starts_with('[') { text.to_owned() } else { format!("[kubernetes]\n{text}") };
        let text = if text.starts_with("[[") || text.starts_with("[kubernetes.") {
            format!("\n{text}")
        } else {
            text
        };
        let error = rendered("gpu", &text).err().unwrap_or_else(|| panic!("accepted: {text}"));
        assert_eq!(error.exit, Exit::Config);
        assert!(error.message.contains(message), "{message}\n{error}");
        assert!(error.hint.is_some_and(|hint| hint.contains("kubectl explain")));
    }
}

#[test]
fn a_system_that_no_node_has_or_that_is_contradicted_is_refused() {
    let error = rendered("gpu", "[builder]\nsystem = \"mips64el-linux\"\n").unwrap_err();
    assert!(error.message.starts_with("trampoline.toml:2: builder.system"), "{error}");
    let both = "[builder]\nsystem = \"aarch64-linux\"\n[kubernetes.node-selector]\n\"kubernetes.io/arch\" = \"amd64\"\n";
    let error = rendered("gpu", both).unwrap_err();
    assert!(error.message.contains("\"arm64\"") && error.message.contains("\"amd64\""), "{error}");
    assert!(rendered("gpu", &both.replace("amd64", "arm64")).is_ok());
}

#[test]
fn a_store_is_adopted_by_the_object_that_makes_the_pod_as_well() {
    let adopting = right("").adopting();
    let daemon = container(&pod(&adopting), "daemon");
    assert_eq!(daemon["command"], json!(["/opt/trampoline/bin/daemon-init", "serve", "--adopt-store"]));
    let user = container(&pod(&adopting), "user");
    assert_eq!(user["command"], json!(["/opt/trampoline/bin/user-init", "serve"]));
}

/// What is printed is what is applied, whatever stands in it.
#[test]
fn the_manifest_reads_back_as_the_objects() {
    let rendering = right(
        "[kubernetes.env]\nA = \"yes\"\nB = \"0o17\"\nC = \" a: 'b' #c\\n\\n\"\nD = \"1e3\"\nE = \"12:30:45\"\nF = \"\"\nG = \"~\"\n# tab:\t|\n\n",
    );
    let back: Vec<Value> = serde_saphyr::from_multiple(&rendering.manifest().unwrap()).unwrap();
    assert_eq!(back, rendering.objects);
}

mod security;
