//! Every option of `[kubernetes]` in the object that it belongs to.

use serde_json::{Value, json};

use super::{container, object, pod, right};

#[test]
fn a_device_plugin_is_asked_for_kvm_where_builds_may_ask_for_it() {
    let limits = |text: &str| container(&pod(&right(text)), "daemon")["resources"]["limits"].clone();
    let resource = "[kubernetes]\nkvm-resource = \"devices.example/kvm\"\n";
    let asked = limits(&format!("{resource}[builder]\nsystem-features = [\"kvm\"]"));
    assert_eq!(asked["devices.example/kvm"], "1");
    assert_eq!(limits(resource).get("devices.example/kvm"), None, "nobody asks");
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

    for (end, size) in [("-store", "1500Mi"), ("-home", "7G"), ("-build", "9Gi")] {
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
build-size = "9Gi"
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
