//! The builder's own account in the cluster: what it may do, and who can act as it.

use std::collections::BTreeSet;

use e2e::builder::Builder;
use e2e::cluster::{self, kubectl};
use serde_json::{Value, json};

use super::pod;

crate::scenarios! {
    Cluster: [
        account_may_do_what_its_role_says_and_nothing_else,
        token_is_short_lived_and_the_monitors_alone,
    ],
}

/// Every verb that the API has for objects.
const VERBS: [&str; 14] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "bind",
    "escalate",
    "impersonate",
    "approve",
    "use",
    "sign",
];
/// Group and resource, with a subresource behind the slash: what a builder is made of, and what would be worth having.
const RESOURCES: [(&str, &str); 25] = [
    ("apps", "statefulsets"),
    ("apps", "statefulsets/scale"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("", "configmaps"),
    ("", "secrets"),
    ("", "pods"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "pods/ephemeralcontainers"),
    ("", "pods/eviction"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "services"),
    ("", "persistentvolumeclaims"),
    ("", "persistentvolumes"),
    ("", "nodes"),
    ("", "nodes/proxy"),
    ("", "namespaces"),
    ("", "events"),
    ("batch", "jobs"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "networkpolicies"),
    ("rbac.authorization.k8s.io", "roles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
];

fn may(verb: &str, group: &str, resource: &str, name: &str) -> Value {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = json!({
        "namespace": cluster::namespace(), "verb": verb, "group": group,
        "resource": resource, "subresource": subresource, "name": name,
    });
    json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    })
}

fn account_may_do_what_its_role_says_and_nothing_else() {
    let builder = Builder::set_up(&[]);
    let account = format!("trampoline-{}", builder.name());
    let status = format!("{account}-status");
    let names = ["", &*account, &*status];
    let mut questions = Vec::new();
    for (group, resource) in RESOURCES {
        for verb in VERBS {
            questions.extend(names.map(|name| (verb, group, resource, name)));
        }
    }
    let list: Vec<Value> =
        questions.iter().map(|(verb, group, resource, name)| may(verb, group, resource, name)).collect();
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": list }).to_string();
    // As the monitor asks.
    let token = kubectl(["create", "token", &account]).run().ok();
    let file = cluster::kubeconfig(token.text(), &builder.person().home().join("account.conf"));
    let answers = e2e::call::Call::new("kubectl")
        .arg("--kubeconfig")
        .arg(&file)
        .args(["create", "-f", "-", "-o", "json"])
        .input(list)
        .run()
        .ok();
    let answers: Vec<Value> = serde_json::Deserializer::from_str(&answers.stdout)
        .into_iter::<Value>()
        .map(|answer| answer.expect("kubectl writes JSON"))
        .flat_map(|answer| answer["items"].as_array().cloned().unwrap_or_else(|| vec![answer]))
        .collect();
    assert_eq!(answers.len(), questions.len());
    let allowed: BTreeSet<String> = answers
        .iter()
        .filter(|answer| answer["status"]["allowed"] == true)
        .map(|answer| {
            let asked = &answer["spec"]["resourceAttributes"];
            let text = |key: &str| asked[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {} {}", text("verb"), text("resource"), text("subresource"), text("name"))
        })
        .collect();
    let expected = [
        format!("get statefulsets scale {account}"),
        format!("patch statefulsets scale {account}"),
        format!("get poddisruptionbudgets  {account}"),
        format!("patch poddisruptionbudgets  {account}"),
        format!("get configmaps  {status}"),
        format!("patch configmaps  {status}"),
    ];
    assert_eq!(allowed, BTreeSet::from(expected));
}

fn token_is_short_lived_and_the_monitors_alone() {
    let builder = Builder::set_up(&[]);
    let place = contract::cluster::SERVICE_ACCOUNT;
    let pod = pod(&builder);
    let look = format!("cat {place}/token");
    let described = kubectl(["get", &pod, "-o", "json"]).run().ok().json();
    for kind in ["initContainers", "containers"] {
        for container in described["spec"][kind].as_array().expect("a list") {
            let mounts = container["volumeMounts"].as_array().cloned().unwrap_or_default();
            let has = mounts.iter().any(|mount| {
                mount["mountPath"].as_str().is_some_and(|path| path.starts_with("/var/run/secrets"))
            });
            assert_eq!(has, container["name"] == "shutdown-monitor", "{container}");
        }
    }
    let volumes = described["spec"]["volumes"].as_array().expect("a list");
    let tokens: Vec<&Value> = volumes
        .iter()
        .flat_map(|volume| volume["projected"]["sources"].as_array().map(Vec::as_slice).unwrap_or_default())
        .filter(|source| source.get("serviceAccountToken").is_some())
        .collect();
    assert_eq!(tokens.len(), 1);
    let seconds = tokens[0]["serviceAccountToken"]["expirationSeconds"].as_u64().expect("a number");
    assert!(seconds <= 3607, "{seconds}");
    for line in [
        look,
        format!("ls {place}"),
        "cat /proc/[0-9]*/root/var/run/secrets/kubernetes.io/serviceaccount/token".to_owned(),
    ] {
        let got = builder.shell(&line);
        assert!(got.code != 0 && !got.stdout.contains("eyJ"), "{got}");
    }
}
