//! What was built reaches the cluster's registry from the builder.

use e2e::builder::Builder;
use e2e::call::Call;
use e2e::cluster::{self, Namespace};
use e2e::nix_files::derivation;
use e2e::person::Person;
use serde_json::json;

crate::scenarios! {
    Lab: [
        image_that_was_built_is_pushed_with_the_pod_s_secret_and_runs,
    ],
}

/// An image of the sandbox's own shell and a file, as an archive.
const IMAGE: &str = r#"
    mkdir -p root/bin; cat /bin/sh >root/bin/sh; chmod 755 root/bin/sh; echo built there >root/said
    tar -C root -cf layer.tar .; set -- $(sha256sum layer.tar)
    echo '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["sha256:'$1'"]}}' >config.json
    echo '[{"Config":"config.json","RepoTags":[],"Layers":["layer.tar"]}]' >manifest.json
    tar -cf $out manifest.json config.json layer.tar"#;

fn image_that_was_built_is_pushed_with_the_pod_s_secret_and_runs() {
    let registry = cluster::lab(&["registry", "up"]).ok().text().to_owned();
    let namespace = Namespace::new(&json!({}));
    let server = format!("--docker-server={registry}");
    let secret = ["create", "secret", "docker-registry", "push", &server];
    let who = ["--docker-username=builder", "--docker-password=lab"];
    namespace.kubectl(secret.into_iter().chain(who)).run().ok();

    let volume = "[{ name = \"push\", mountPath = \"/run/push\", readOnly = true, containers = [\"user\"], \
                   secret = { secretName = \"push\", items = [{ key = \".dockerconfigjson\", path = \"config.json\" }] } }]";
    let options = [
        ("kubernetes.namespace", &*namespace.option()),
        ("kubernetes.extra-volumes", volume),
        ("kubernetes.env", "{ DOCKER_CONFIG = \"/run/push\" }"),
    ];
    let builder = Builder::new(Person::new(), &options);
    builder.cli(["setup", "--yes"]).run().ok();
    // In place of one from nixpkgs.
    let crane = Call::new("sh").args([
        "-c",
        "cat \"$(command -v crane)\" | \"$CLI\" shell -- sh -c 'cat >~/crane; chmod +x ~/crane'",
    ]);
    let person = builder.person();
    crane
        .env("CLI", &e2e::setting::setting().cli)
        .env("HOME", person.home())
        .in_dir(person.work())
        .run()
        .ok();

    let tree = builder.pushed("image", &[("image.nix", &*derivation("t-image", IMAGE))]);
    tree.cli(["build", "-f", "image.nix"]).run().ok();
    let image = format!("{registry}/private/t-image:1");
    let push = format!("~/crane push --insecure ./result {image}");
    let stranger = tree.shell(&format!("DOCKER_CONFIG=/nowhere {push}"));
    assert!(stranger.code != 0 && stranger.stderr.contains("401 Unauthorized"), "{stranger}");
    tree.shell(&push).ok();

    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "reader" },
        "spec": {
            "restartPolicy": "Never",
            "imagePullSecrets": [{ "name": "push" }],
            "containers": [{ "name": "reader", "image": image, "command": ["/bin/sh", "-c", "cat /said"] }],
        },
    });
    cluster::make(namespace.name(), &pod);
    cluster::wait_for(namespace.name(), "pod/reader", ".status.phase", "Succeeded");
    assert_eq!(namespace.kubectl(["logs", "reader"]).run().ok().text(), "built there");
    cluster::lab(&["registry", "down"]).ok();
}
