//! What the API does not know, and what no builder can be made from.

use contract::exit::Exit;

use super::rendered;

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
