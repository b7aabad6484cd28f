use contract::config::Config;
use contract::handshake::Isolation;
use serde_json::{Value, json};

use super::*;
use crate::render::limits::Resolved;
use crate::render::strict;
use crate::resolve::Hosts;

/// The rendering of this trampoline.toml, privileged.
fn rendered(builder: &str, text: &str) -> Result<Rendering> {
    isolated(builder, text, Isolation::Privileged)
}

fn isolated(builder: &str, text: &str, isolation: Isolation) -> Result<Rendering> {
    let config = Config::parse(text, "trampoline.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let sources = Sources {
        builder,
        config: &config,
        text,
        ca_bundle: Some("PEM"),
        owner: "alice@laptop",
        ssh_port: 22_222,
        limits: &Resolved::default(),
        isolation,
        hosts: &hosts(),
    };
    render(&sources, config.kubernetes.namespace.as_deref())
}

/// As if somebody had resolved them.
fn hosts() -> Hosts {
    let addresses = |list: &[&str]| list.iter().map(|address| address.parse().unwrap()).collect();
    Hosts::from([
        ("cache.example".to_owned(), addresses(&["192.0.2.7", "2001:db8::7"])),
        ("proxy.example".to_owned(), addresses(&["10.0.0.8", "192.0.2.7"])),
    ])
}

fn right(text: &str) -> Rendering {
    rendered("gpu", text).unwrap_or_else(|error| panic!("{error}"))
}

fn userns(text: &str) -> Rendering {
    isolated("gpu", text, Isolation::Userns).unwrap_or_else(|error| panic!("{error}"))
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

/// What the client alone notes on an object and on its pod goes.
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
    for name in ["", "-store", "-home", "-build", "-status"] {
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
        "[builder]\nstore-size = \"20Gi\"\nbuild-size = \"1Gi\"",
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
fn a_store_is_adopted_by_the_object_that_makes_the_pod_as_well() {
    let adopting = right("").adopting();
    let daemon = container(&pod(&adopting), "daemon");
    assert_eq!(daemon["command"], json!(["/opt/trampoline/bin/daemon-init", "serve", "--adopt-store"]));
    let user = container(&pod(&adopting), "user");
    assert_eq!(user["command"], json!(["/opt/trampoline/bin/user-init", "serve"]));
    let adopting = userns("").adopting();
    let command = |name: &str| container(&pod(&adopting), name)["command"].clone();
    let binary = "/opt/trampoline/bin/daemon-init";
    assert_eq!(command("prepare"), json!([binary, "prepare", "--seed", "--adopt-store"]));
    assert_eq!(command("daemon"), json!([binary, "serve", "--isolation", "userns"]));
    assert_eq!(serde_json::to_value(&adopting.pod.spec).unwrap(), pod(&adopting));
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

mod refusals;
mod security;
mod standard;
mod surface;
mod userns;
