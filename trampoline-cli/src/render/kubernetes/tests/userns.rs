//! The pod in a user namespace.

use contract::handshake::Isolation;
use serde_json::{Value, json};

use super::{TEMPLATE_BUILDER, container, isolated, object, pod, right, template, userns, without_notes};

#[test]
fn the_daemon_is_root_without_privilege_and_finds_its_store_in_place() {
    let pod = pod(&userns(""));
    assert_eq!(pod["hostUsers"], false);
    let daemon = container(&pod, "daemon");
    let security = &daemon["securityContext"];
    for (field, value) in [
        ("runAsUser", json!(0)),
        ("privileged", json!(null)),
        ("allowPrivilegeEscalation", json!(false)),
        ("procMount", json!("Unmasked")),
        ("seccompProfile", json!(null)),
        (
            "capabilities",
            json!({ "drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "SETUID", "SETGID"] }),
        ),
    ] {
        assert_eq!(security[field], value, "{field}");
    }
    assert_eq!(
        daemon["command"],
        json!(["/opt/trampoline/bin/daemon-init", "serve", "--isolation", "userns"])
    );
    let mount = |container: &Value, volume: &str| {
        let mounts = container["volumeMounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["name"] == volume).map(|mount| mount["mountPath"].clone())
    };
    assert_eq!(mount(&daemon, "store"), Some(json!("/nix")));
    let prepare = container(&pod, "prepare");
    assert_eq!(prepare["command"], json!(["/opt/trampoline/bin/daemon-init", "prepare", "--seed"]));
    assert_eq!(mount(&prepare, "store"), Some(json!("/trampoline/volume/nix")));
    assert_eq!(mount(&prepare, "config"), Some(json!("/etc/trampoline/config")));
    assert_eq!(prepare["resources"]["limits"], daemon["resources"]["limits"], "it copies a store");
}

/// What `container/userns` does to this object: the operations of a JSON patch that stand in it.
fn overlaid(mut object: Value) -> Value {
    let text = include_str!("../../../../../container/userns/kustomization.yaml");
    let overlay: Value = serde_saphyr::from_str(text).unwrap();
    let patches = overlay["patches"].as_array().unwrap();
    assert_eq!(patches.len(), 1);
    assert_eq!(patches[0]["target"], json!({ "kind": "StatefulSet" }));
    let operations: Vec<Value> = serde_saphyr::from_str(patches[0]["patch"].as_str().unwrap()).unwrap();
    assert!(operations.len() > 10, "{operations:?}");
    for operation in operations {
        let path = operation["path"].as_str().unwrap();
        let (parent, key) = path.rsplit_once('/').unwrap();
        let value = operation["value"].clone();
        let there = object.pointer(path).cloned();
        let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{operation}"));
        match (operation["op"].as_str().unwrap(), parent) {
            ("test", _) => assert_eq!(there, Some(value), "{operation}"),
            ("add", Value::Array(items)) if key == "-" => items.push(value),
            ("add" | "replace", Value::Object(map)) => drop(map.insert(key.to_owned(), value)),
            ("remove", Value::Object(map)) => assert!(map.remove(key).is_some(), "{operation}"),
            _ => panic!("{operation}"),
        }
    }
    object
}

/// `kubectl apply -k container/userns` and the client make the same builder.
#[test]
fn by_default_it_is_the_overlay() {
    let rendering = isolated(TEMPLATE_BUILDER, "", Isolation::Userns).unwrap();
    let template = template::objects().unwrap().into_iter().find(|object| object["kind"] == "StatefulSet");
    let ours = without_notes(object(&rendering, "StatefulSet", ""));
    assert_eq!(ours, overlaid(template.unwrap()));
}

#[test]
fn all_other_containers_are_the_same() {
    let (mapped, privileged) = (pod(&userns("")), pod(&right("")));
    for name in ["user", "maintenance", "shutdown-monitor"] {
        assert_eq!(container(&mapped, name), container(&privileged, name));
    }
    assert_eq!(mapped["volumes"], privileged["volumes"]);
}

#[test]
fn a_profile_is_named_as_a_kubelet_finds_it() {
    let pod = pod(&userns("[daemon]\nseccomp = \"localhost/profiles/nix-trampoline.json\"\n"));
    assert_eq!(
        container(&pod, "daemon")["securityContext"]["seccompProfile"],
        json!({ "type": "Localhost", "localhostProfile": "profiles/nix-trampoline.json" })
    );
}
