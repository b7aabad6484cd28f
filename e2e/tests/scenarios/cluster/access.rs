//! Who makes a builder, and from where.

use e2e::builder::Builder;
use e2e::cluster::{self, Namespace};
use e2e::nix_files::quick;
use e2e::person::Person;
use e2e::setting::setting;
use serde_json::{Value, json};

use super::made_by_kubectl;

crate::scenarios! {
    Cluster: [
        kubectl_alone_makes_a_builder_that_the_client_adopts,
        printed_role_suffices_and_what_is_missing_is_named,
        client_in_a_pod_uses_the_pod_s_account,
    ],
}

/// What the client asks for, from `setup --rbac`.
pub(super) fn rules(namespace: &Namespace, builder: &Builder) -> Value {
    let printed = builder.cli(["setup", "--rbac"]).run().ok();
    let parsed = namespace
        .kubectl(["create", "--dry-run=client", "-o", "json", "-f", "-"])
        .input(printed.stdout)
        .run()
        .ok();
    // One document after the other.
    let documents = serde_json::Deserializer::from_str(&parsed.stdout).into_iter::<Value>();
    let all: Vec<Value> = documents.map(|document| document.expect("kubectl writes JSON")).collect();
    let all =
        all.iter().flat_map(|one| one["items"].as_array().cloned().unwrap_or_else(|| vec![one.clone()]));
    let role = all.into_iter().find(|object| object["kind"] == "Role").expect("a Role is printed");
    role["rules"].clone()
}

fn kubectl_alone_makes_a_builder_that_the_client_adopts() {
    let namespace = Namespace::new(&json!({}));
    let builder = made_by_kubectl(&namespace, "container", &[]);
    let tree = builder.checkout("plain", &[("default.nix", &*quick("t-plain", "by kubectl"))]);
    tree.cli(["push-tarball"]).run().ok();
    let path = tree.cli(["build"]).run().ok();
    assert_eq!(builder.status()["owner"], Value::Null);
    let adopted = builder.cli(["setup", "--yes"]).run().ok();
    assert!(adopted.stderr.contains("up to date"), "{adopted}");
    assert!(builder.status()["owner"].is_string());
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), "by kubectl");
    assert_eq!(builder.cli(["ssh", "--", "echo", "in"]).run().ok().text(), "in");
}

fn printed_role_suffices_and_what_is_missing_is_named() {
    let namespace = Namespace::new(&json!({}));
    let builder = Builder::new(Person::new(), &[("kubernetes.namespace", &namespace.option())]);
    let folder = builder.person().home();
    let all = rules(&namespace, &builder);
    let config = namespace.account("allowed", &all, &folder);
    let cli = |args: &[&str]| builder.cli(args.iter().copied()).env("KUBECONFIG", &config);
    cli(&["setup", "--yes"]).run().ok();
    let tree = builder.checkout("allowed", &[("default.nix", &*quick("t-allowed", "built"))]);
    let in_tree = |args: &[&str]| tree.cli(args.iter().copied()).env("KUBECONFIG", &config);
    in_tree(&["push-tarball"]).run().ok();
    in_tree(&["build"]).run().ok();
    cli(&["ssh", "--", "true"]).run().ok();
    for args in [&["logs"][..], &["status"], &["list"], &["maintenance"], &["setup", "--yes"]] {
        cli(args).run().ok();
    }

    // Who may not run commands there can still see how it is.
    let mut fewer = all.clone();
    fewer.as_array_mut().expect("rules").retain(|rule| !rule["resources"].to_string().contains("pods/exec"));
    let config = namespace.account("looker", &fewer, &folder);
    let looker = |args: &[&str]| builder.cli(args.iter().copied()).env("KUBECONFIG", &config).run();
    let status = looker(&["status"]).ok();
    assert!(status.stdout.contains("running") && status.stdout.contains("last activity"), "{status}");
    let refused = looker(&["shell", "--", "true"]);
    assert!(refused.code != 0 && refused.stderr.contains(" pods/exec in namespace"), "{refused}");
    assert!(refused.stderr.contains("setup --rbac"), "what to do: {refused}");

    cli(&["down"]).run().ok();
    cli(&["clean", "--delete-store", "--yes"]).run().ok();
}

fn client_in_a_pod_uses_the_pod_s_account() {
    let namespace = Namespace::new(&json!({}));
    let builder = Builder::new(Person::new(), &[("kubernetes.namespace", &namespace.option())]);
    builder.cli(["setup", "--yes"]).run().ok();
    drop(namespace.account("runner", &rules(&namespace, &builder), &builder.person().home()));
    cluster::make_sleeper(namespace.name(), "runner", &json!({}), json!({ "serviceAccountName": "runner" }));
    let run = |line: &str| {
        let line = format!(
            "export PATH=/nix/var/nix/profiles/default/bin:/bin HOME=/tmp USER=runner; cd /tmp; {line}"
        );
        namespace.kubectl(["exec", "-i", "runner", "--", "/bin/sh", "-euc", &line])
    };
    let client = std::fs::read(&setting().cli).expect("the client");
    run("cat >client; chmod +x client").input(client).run().ok();
    let config = std::fs::read(builder.person().work().join("trampoline.toml")).expect("it was written");
    run("cat >trampoline.toml").input(config).run().ok();
    // The client is one of this machine's, whose loader stands elsewhere there.
    let loader = "for loader in /lib64/ld-linux-x86-64.so.2 /nix/store/*/lib/ld-linux-x86-64.so.2 \
                  /nix/store/*/lib/*/ld-linux-x86-64.so.2; do if [ -e $loader ]; then break; fi; done; \
                  client() { $loader --library-path ${loader%/*} ./client \"$@\"; }";
    let status = run(&format!("{loader}; client status")).run().ok();
    assert!(status.stdout.contains("running"), "{status}");
    let line = format!("{loader}; client shell -- sh -c 'echo through the API; exit 5'");
    let shell = run(&line).run().ended(5);
    assert_eq!(shell.text(), "through the API");
}
