//! The rules between packages that ARCHITECTURE.md states, held against `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Package -> the workspace's own packages that it may depend on.
const RULES: &[(&str, &[&str])] = &[
    ("contract", &[]),
    ("worker-protocol", &[]),
    ("agent", &["contract", "worker-protocol"]),
    ("daemon-init", &["agent", "contract", "worker-protocol"]),
    ("user-init", &["agent", "contract", "worker-protocol"]),
    ("maintenance-agent", &["agent", "contract", "worker-protocol"]),
    ("shutdown-monitor", &["agent", "contract", "worker-protocol"]),
    ("trampoline-cli", &["contract", "worker-protocol"]),
    ("e2e", &["contract"]),
];

/// What a pure package must not lean on.
const IMPURE: &[&str] = &["tokio", "nix", "inotify", "signal-hook", "reqwest", "tracing", "rustix", "libc"];

/// Package -> its direct dependencies of kind `normal` or `build`.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--offline", "--format-version", "1", "--manifest-path", manifest])
        .output()
        .expect("cargo metadata as documented");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata as documented");
    let mut found = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("cargo metadata as documented") {
        let wanted = package["dependencies"].as_array().expect("cargo metadata as documented").iter();
        let wanted = wanted
            .filter(|d| d["kind"] != "dev")
            .map(|d| d["name"].as_str().expect("cargo metadata as documented").to_owned());
        found.insert(
            package["name"].as_str().expect("cargo metadata as documented").to_owned(),
            wanted.collect(),
        );
    }
    found
}

#[test]
fn dependencies_point_one_way() {
    let found = dependencies();
    let ours: BTreeSet<&str> = RULES.iter().map(|(name, _)| *name).collect();
    assert_eq!(found.keys().map(String::as_str).collect::<BTreeSet<_>>(), ours, "a package without a rule");
    for (name, allowed) in RULES {
        for dependency in found[*name].iter().filter(|d| ours.contains(d.as_str())) {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn pure_packages_lean_on_nothing_that_acts() {
    let found = dependencies();
    for name in ["contract", "worker-protocol"] {
        let impure: Vec<_> = found[name].iter().filter(|d| IMPURE.contains(&d.as_str())).collect();
        assert!(impure.is_empty(), "{name} leans on {impure:?}");
    }
}
