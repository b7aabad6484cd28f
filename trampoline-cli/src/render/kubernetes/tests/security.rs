//! The rendered objects against what a cluster's people ask for.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::standard::{
    BASELINE_OF_A_CONTAINER, OF_A_CONTAINER, OF_THE_POD, VOLUME_TYPES, values, violations,
};
use super::{container, object, pod, right, userns};

/// Who runs for more than a moment.
const OTHERS: [&str; 3] = ["user", "maintenance", "shutdown-monitor"];

#[test]
fn all_but_the_daemon_meet_restricted() {
    for pod in [pod(&right("")), pod(&userns(""))] {
        for name in OTHERS {
            let container = container(&pod, name);
            assert_eq!(violations(&container, &OF_A_CONTAINER), Vec::<String>::new(), "{name}");
            let uid = container["securityContext"]["runAsUser"].as_u64();
            assert!(
                uid.is_some_and(|uid| uid > 0),
                "{name}: a number, so that the kubelet need not ask the image"
            );
        }
        assert_eq!(violations(&pod, &OF_THE_POD), Vec::<String>::new());
        for volume in pod["volumes"].as_array().unwrap() {
            let kinds: Vec<&String> =
                volume.as_object().unwrap().keys().filter(|key| *key != "name").collect();
            assert!(kinds.iter().all(|kind| VOLUME_TYPES.contains(&kind.as_str())), "{volume}");
        }
        // In a user namespace of its own "restricted" lets it be root, from version 1.35 on, if it is nothing else.
        let found = violations(&container(&pod, "prepare"), &OF_A_CONTAINER);
        let as_root = |found: &String| found.contains("Non-root");
        assert_eq!(found.iter().all(as_root), pod["hostUsers"] == false, "{found:?}");
        // The list itself finds what is wrong.
        assert!(!violations(&container(&pod, "daemon"), &OF_A_CONTAINER).is_empty());
    }
    let open = json!({ "ports": [{ "hostPort": 1 }], "securityContext": { "capabilities": { "add": ["SYS_ADMIN"] } } });
    assert_eq!(violations(&open, &OF_A_CONTAINER).len(), 6);
}

#[test]
fn all_of_a_user_namespace_meet_baseline() {
    for profile in ["", "[daemon]\nseccomp = \"localhost/a.json\"\n"] {
        let pod = pod(&userns(profile));
        assert_eq!(pod["hostUsers"], false, "else /proc must stay masked");
        for name in ["prepare", "daemon"].iter().chain(&OTHERS) {
            let found = violations(&container(&pod, name), &BASELINE_OF_A_CONTAINER);
            assert_eq!(found, Vec::<String>::new(), "{name}");
        }
        // What "restricted" asks of the pod, "baseline" does not even ask.
        assert_eq!(violations(&pod, &OF_THE_POD), Vec::<String>::new());
    }
    let privileged = violations(&container(&pod(&right("")), "daemon"), &BASELINE_OF_A_CONTAINER);
    assert!(privileged.len() == 1 && privileged[0].starts_with("Privileged Containers"), "{privileged:?}");
    let open = json!({ "securityContext": {
        "seccompProfile": { "type": "Unconfined" }, "capabilities": { "add": ["CHOWN", "SYS_PTRACE"] },
    } });
    assert_eq!(violations(&open, &BASELINE_OF_A_CONTAINER).len(), 2);
}

#[test]
fn nobody_writes_to_the_image_and_all_are_limited() {
    for pod in [pod(&right("")), pod(&userns(""))] {
        let mut names = BTreeSet::new();
        for container in values(&pod, "initContainers/*").into_iter().chain(values(&pod, "containers/*")) {
            names.insert(container["name"].as_str().unwrap());
            assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{container}");
            for (kind, resource) in
                [("requests", "cpu"), ("requests", "memory"), ("limits", "cpu"), ("limits", "memory")]
            {
                assert!(
                    container["resources"][kind][resource].is_string(),
                    "{kind} of {resource}: {container}"
                );
            }
        }
        assert_eq!(names.len(), 5, "{names:?}");
        // What takes the place of `/tmp` is each one's own: root trusts what it finds there.
        let sees = |name: &str, volume: &str| {
            values(&container(&pod, name), "volumeMounts/*/name").contains(&&json!(volume))
        };
        assert!(sees("daemon", "daemon-tmp") && !sees("daemon", "user-tmp"));
        assert!(sees("user", "user-tmp") && !sees("user", "daemon-tmp"));
        let others = ["user", "maintenance", "shutdown-monitor"];
        assert!(sees("daemon", "build") && !others.iter().any(|name| sees(name, "build")));
    }
}

#[test]
fn ids_are_all_different_and_nothing_is_chowned() {
    let pod = pod(&right(""));
    let all = ["daemon", "user", "maintenance", "shutdown-monitor"];
    let ids: BTreeSet<u64> = all
        .iter()
        .map(|name| container(&pod, name)["securityContext"]["runAsUser"].as_u64().unwrap())
        .collect();
    assert_eq!(ids.len(), all.len(), "equal ids read each other's files in one PID namespace");
    assert_eq!(pod["shareProcessNamespace"], true);
    assert!(values(&pod, "securityContext/fsGroup").is_empty(), "it would walk the store");
}

#[test]
fn the_token_is_the_monitors_alone() {
    let rendering = right("");
    let pod = pod(&rendering);
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(object(&rendering, "ServiceAccount", "")["automountServiceAccountToken"], false);
    let volumes = pod["volumes"].as_array().unwrap();
    let tokens: Vec<&Value> =
        volumes.iter().filter(|volume| volume.to_string().contains("serviceAccountToken")).collect();
    assert_eq!(tokens.len(), 1);
    for name in ["prepare", "daemon", "user", "maintenance", "shutdown-monitor"] {
        let container = container(&pod, name);
        let mounts = container["volumeMounts"].as_array().unwrap();
        let token = mounts.iter().find(|mount| mount["name"] == tokens[0]["name"]);
        assert_eq!(token.is_some(), name == "shutdown-monitor", "{name}");
        if let Some(token) = token {
            assert_eq!(token["mountPath"], contract::cluster::SERVICE_ACCOUNT);
            assert_eq!(token["readOnly"], true);
        }
    }
}

#[test]
fn the_role_names_what_belongs_to_this_builder() {
    let role = object(&right(""), "Role", "");
    let rules = role["rules"].as_array().unwrap();
    let seen: BTreeSet<(&str, &str, &str)> = rules
        .iter()
        .flat_map(|rule| {
            let text = |key: &str| rule[key].as_array().unwrap()[0].as_str().unwrap();
            assert_eq!(rule["verbs"], json!(["get", "patch"]));
            for key in ["apiGroups", "resources", "resourceNames"] {
                assert_eq!(rule[key].as_array().unwrap().len(), 1, "{key} of {rule}");
            }
            [(text("apiGroups"), text("resources"), text("resourceNames"))]
        })
        .collect();
    let expected = [
        ("apps", "statefulsets/scale", "trampoline-gpu"),
        ("policy", "poddisruptionbudgets", "trampoline-gpu"),
        ("", "configmaps", "trampoline-gpu-status"),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
    let binding = object(&right(""), "RoleBinding", "");
    assert_eq!(
        binding["roleRef"],
        json!({ "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "trampoline-gpu" })
    );
    assert_eq!(binding["subjects"], json!([{ "kind": "ServiceAccount", "name": "trampoline-gpu" }]));
}

#[test]
fn nothing_but_ssh_comes_in_and_the_nodes_credentials_stay_out_of_reach() {
    let policy = object(&right(""), "NetworkPolicy", "");
    let spec = &policy["spec"];
    assert_eq!(spec["podSelector"], json!({ "matchLabels": { "io.trampoline.builder": "gpu" } }));
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["ingress"], json!([{ "ports": [{ "port": "ssh" }] }]));
    let blocks = values(spec, "egress/*/to/*/ipBlock/except/*");
    assert!(blocks.contains(&&json!("169.254.169.254/32")), "{spec}");
}

#[test]
fn networks_that_are_named_are_all_that_can_be_reached() {
    let egress = |text: &str| object(&right(text), "NetworkPolicy", "")["spec"]["egress"].clone();
    let everywhere = json!([
        { "ipBlock": { "cidr": "0.0.0.0/0", "except": ["169.254.169.254/32"] } },
        { "ipBlock": { "cidr": "::/0", "except": ["fd00:ec2::254/128"] } },
    ]);
    assert_eq!(egress(""), json!([{ "to": everywhere }]));
    let names = json!({ "ports": [{ "port": 53, "protocol": "UDP" }, { "port": 53, "protocol": "TCP" }], "to": everywhere });
    assert_eq!(egress("kubernetes.egress = []"), json!([names]));
    let networks = json!({ "to": [
        { "ipBlock": { "cidr": "169.254.0.0/16", "except": ["169.254.169.254/32"] } },
        { "ipBlock": { "cidr": "10.0.0.0/8" } },
    ] });
    assert_eq!(egress("kubernetes.egress = [\"169.254.0.0/16\", \"10.0.0.0/8\"]"), json!([names, networks]));
    let open = egress("daemon.node-credentials = true\nkubernetes.egress = [\"0.0.0.0/0\"]");
    assert!(values(&open, "*/to/*/ipBlock/except").is_empty(), "{open}");
    assert_eq!(egress("daemon.node-credentials = true"), json!([{}]));
}

#[test]
fn hosts_that_are_named_are_their_addresses() {
    let policy = |text: &str| object(&right(text), "NetworkPolicy", "");
    let note = |policy: &Value| policy["metadata"]["annotations"]["io.trampoline.egress"].clone();
    let cidrs = |policy: &Value| {
        values(&policy["spec"]["egress"][1], "to/*/ipBlock/cidr").into_iter().cloned().collect::<Vec<_>>()
    };
    let both = policy("kubernetes.egress = [\"proxy.example\", \"10.0.0.8/32\", \"cache.example\"]");
    assert_eq!(cidrs(&both), ["10.0.0.8/32", "192.0.2.7/32", "2001:db8::7/128"], "each once, in one order");
    assert_eq!(note(&both), "cache.example: 192.0.2.7, 2001:db8::7; proxy.example: 10.0.0.8, 192.0.2.7");
    let substituters =
        "kubernetes.egress = [\"substituters\"]\ndaemon.substituters = [\"https://cache.example\"]\n";
    let cache = policy(substituters);
    assert_eq!(cidrs(&cache), ["192.0.2.7/32", "2001:db8::7/128"]);
    assert_eq!(note(&cache), "cache.example: 192.0.2.7, 2001:db8::7");
    let and_proxy = policy(&format!("{substituters}daemon.proxy = \"http://proxy.example:3128\""));
    assert_eq!((cidrs(&and_proxy), note(&and_proxy)), (cidrs(&both), note(&both)));
    // What was resolved for others opens nothing, and what was not is closed.
    for text in ["kubernetes.egress = [\"other.example\"]", "kubernetes.egress = []"] {
        let closed = policy(text);
        assert_eq!(values(&closed["spec"], "egress/*").len(), 1, "name servers: {closed}");
        assert_eq!(note(&closed), Value::Null);
    }
}

#[test]
fn the_service_leads_to_sshd() {
    let rendering = right("");
    let service = object(&rendering, "Service", "");
    assert_eq!(service["spec"]["selector"], json!({ "io.trampoline.builder": "gpu" }));
    assert_eq!(service["spec"]["ports"], json!([{ "name": "ssh", "port": 22, "targetPort": "ssh" }]));
    let user = container(&pod(&rendering), "user");
    assert_eq!(user["ports"], json!([{ "name": "ssh", "containerPort": contract::places::SSH_PORT }]));
    let set = object(&rendering, "StatefulSet", "");
    assert_eq!(set["spec"]["serviceName"], service["metadata"]["name"]);
    assert_eq!(set["spec"]["selector"]["matchLabels"], service["spec"]["selector"]);
}
