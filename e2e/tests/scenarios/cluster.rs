//! What only a cluster does to a builder.

pub(crate) mod access;
pub(crate) mod account;
pub(crate) mod claims;
pub(crate) mod isolation;
pub(crate) mod kubeconfig;
pub(crate) mod lab;
pub(crate) mod lab_userns;
pub(crate) mod life;
pub(crate) mod start;
pub(crate) mod tuning;
pub(crate) mod userns;

use std::path::Path;

use e2e::builder::Builder;
use e2e::checkout::Checkout;
use e2e::cluster::Namespace;
use e2e::nix_files::slow;
use e2e::person::Person;
use e2e::process::Live;
use e2e::setting::setting;

/// A build that has begun, and the number that its output will hold.
fn building(builder: &Builder, seconds: u32) -> (Checkout, Live, String) {
    let tree = builder.pushed("busy", &[("default.nix", &*slow("t-busy", seconds))]);
    let mut build = tree.cli(["build"]).start();
    let begun = build.line("begun ");
    let id = begun.trim().rsplit_once(' ').expect("begun NUMBER").1.to_owned();
    (tree, build, id)
}

fn pod(builder: &Builder) -> String {
    format!("pod/trampoline-{}-0", builder.name())
}

fn set(builder: &Builder) -> String {
    format!("statefulset/trampoline-{}", builder.name())
}

/// A builder that `kubectl apply -k` has made of this folder of the repository, with the image of the tests.
fn made_by_kubectl(namespace: &Namespace, folder: &str, options: &[(&str, &str)]) -> Builder {
    let person = Person::new();
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    // Overlays refer to each other by where they stand.
    for file in
        ["kustomization.yaml", "pod/kustomization.yaml", "pod/k8s-pod.yaml", "userns/kustomization.yaml"]
    {
        let (from, to) =
            (repository.join("container").join(file), person.work().join("container").join(file));
        std::fs::create_dir_all(to.parent().expect("below the folder")).expect("a folder of ours");
        std::fs::copy(from, to).expect("it is in the repository");
    }
    let (name, tag) = setting().image.rsplit_once(':').expect("an image with a tag");
    let overlay = format!(
        "resources: [{folder}]\nimages: [{{name: localhost/nix-trampoline, newName: {name}, newTag: {tag}}}]\n"
    );
    std::fs::write(person.work().join("kustomization.yaml"), overlay).expect("a folder of ours");
    let work = person.work();
    namespace.kubectl(["apply", "-k", work.to_str().expect("no odd folder")]).run().ok();
    // Its name is the template's.
    let always = [("builder.name", "\"builder\""), ("kubernetes.namespace", &*namespace.option())];
    Builder::new(person, &[&always, options].concat())
}
