//! What builds may ask of the machine: they have it, or are refused.

use std::fs::OpenOptions;

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::nix_files::derivation;
use e2e::person::Person;

crate::scenarios! {
    Root: [
        build_that_asks_for_a_feature_has_it_or_is_refused,
    ],
    Cluster: [
        kvm_that_is_not_there_is_refused,
    ],
}

/// The machine's own device is for nobody else.
const PRIVILEGED: (&str, &str) = ("daemon.isolation", "\"privileged\"");

/// A derivation that asks for this feature.
fn asking(feature: &str, script: &str) -> String {
    let name = format!("t-{feature}");
    derivation(&name, script)
        .replace("derivation {", &format!("derivation {{\n  requiredSystemFeatures = [ \"{feature}\" ];"))
}

fn build_that_asks_for_a_feature_has_it_or_is_refused() {
    let options = [("builder.system-features", "[ \"kvm\", \"t-known\" ]"), PRIVILEGED];
    let builder = Builder::new(Person::new(), &options);
    let setup = builder.cli(["setup", "--yes"]).run();
    // Pods of these tests run on this machine, but for those of somebody else's cluster.
    if OpenOptions::new().read(true).write(true).open("/dev/kvm").is_err() && setup.code != 0 {
        setup.refused(Exit::Unsupported, "/dev/kvm cannot be used");
        return;
    }
    setup.ok();
    let tree = builder.checkout(
        "features",
        &[
            ("kvm.nix", &*asking("kvm", "exec 3<>/dev/kvm && echo open > $out")),
            ("known.nix", &*asking("t-known", "echo known > $out")),
            ("unknown.nix", &*asking("t-unknown", "echo unknown > $out")),
        ],
    );
    tree.cli(["push-tarball"]).run().ok();
    for (file, output) in [("kvm.nix", "open"), ("known.nix", "known")] {
        let path = tree.cli(["build", "-f", file]).run().ok();
        assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), output);
    }
    let refused = tree.cli(["build", "-f", "unknown.nix"]).run();
    assert!(refused.code != 0 && refused.stderr.contains("t-unknown"), "{refused}");
}

fn kvm_that_is_not_there_is_refused() {
    let kvm = ("builder.system-features", "[ \"kvm\" ]");
    let refused = |options: &[(&str, &str)], exit: Exit, parts: &[&str]| {
        let builder = Builder::new(Person::new(), &[&[kvm], options].concat());
        let setup = builder.cli(["setup", "--yes"]).run();
        for part in parts {
            assert!(setup.stderr.contains(part), "no {part:?} in {setup}");
        }
        setup.refused(exit, "kvm");
    };
    let plugin = [("kubernetes.kvm-resource", "\"t-devices.example/kvm\"")];
    refused(&plugin, Exit::Engine, &["Insufficient t-devices.example/kvm", "`kvm-resource`"]);
    // A folder in its place.
    let hidden = "[{ name = \"none\", emptyDir = {}, mountPath = \"/dev/kvm\", containers = [\"daemon\"] }]";
    let hidden = [("kubernetes.extra-volumes", hidden), PRIVILEGED];
    refused(&hidden, Exit::Unsupported, &["/dev/kvm cannot be used", "take \"kvm\" out"]);
}
