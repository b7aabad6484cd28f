//! Claims that are there, and what is asked of them afterwards.

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::cluster::{self, Global};
use e2e::person::Person;
use serde_json::{Value, json};

use super::set;

crate::scenarios! {
    Cluster: [
        claims_grow_where_their_class_lets_them,
        claim_that_cannot_become_what_is_asked_for_is_left_alone,
    ],
}

/// A class whose volumes are made as those of the cluster's own default are.
fn class(grows: bool) -> Global {
    let classes = cluster::kubectl(["get", "storageclass", "-o", "json"]).run().ok().json();
    let default = "storageclass.kubernetes.io/is-default-class";
    let all = classes["items"].as_array().expect("a list");
    let is_default = |class: &&Value| class["metadata"]["annotations"][default] == "true";
    let mut class = all.iter().find(is_default).expect("a class that is the default").clone();
    class["metadata"] = json!({});
    class["allowVolumeExpansion"] = grows.into();
    Global::new("storageclass", class)
}

fn builder(class: &Global, more: &[(&str, &str)]) -> Builder {
    let builder = Builder::new(Person::new(), &[]);
    configure(&builder, class, more);
    builder.cli(["setup", "--yes"]).run().ok();
    builder
}

fn configure(builder: &Builder, class: &Global, more: &[(&str, &str)]) {
    let option = format!("{:?}", class.name());
    builder.configure(&[&[("kubernetes.storage-class", option.as_str())], more].concat());
}

fn claim(builder: &Builder, which: &str) -> String {
    format!("pvc/trampoline-{}-{which}", builder.name())
}

fn asked(builder: &Builder) -> String {
    cluster::field(&claim(builder, "store"), ".spec.resources.requests.storage")
}

fn claims_grow_where_their_class_lets_them() {
    let class = class(true);
    let builder = builder(&class, &[]);
    let life = builder.status()["pod"]["life"].clone();
    configure(&builder, &class, &[("builder.store-size", "\"12Gi\"")]);
    let shown = builder.cli(["setup", "--dry-run"]).run().ok();
    assert!(shown.stderr.contains("10Gi") && shown.stderr.contains("12Gi"), "{shown}");
    assert_eq!(asked(&builder), "10Gi", "nothing was changed yet");

    let setup = builder.cli(["setup", "--yes"]).run().ok();
    let line = format!("changes PersistentVolumeClaim trampoline-{}-store", builder.name());
    assert!(setup.stderr.contains(&line), "{setup}");
    assert_eq!(asked(&builder), "12Gi");
    assert_eq!(builder.status()["pod"]["life"], life, "nobody was disturbed");
    assert!(builder.cli(["setup", "--yes"]).run().ok().stderr.contains("nothing to change"));

    // The volume itself is the storage's to grow: until it has, that is told.
    let store = claim(&builder, "store");
    let storage = |status: Value| {
        let patch = json!({ "status": status }).to_string();
        cluster::kubectl(["patch", &store, "--subresource=status", "--type=merge", "-p", &patch]).run().ok();
    };
    let pending = || builder.status()["pending"].as_array().cloned().unwrap_or_default();
    let of_it =
        |word: &str| pending().iter().any(|line| line.as_str().is_some_and(|line| line.contains(word)));
    assert!(of_it("-store from 10Gi to 12Gi"), "{:?}", pending());
    storage(json!({ "conditions": [{ "type": "FileSystemResizePending", "status": "True" }] }));
    assert!(of_it("next start"), "{:?}", pending());
    storage(json!({ "conditions": [], "capacity": { "storage": "12Gi" } }));
    assert_eq!(pending(), Vec::<Value>::new());

    configure(&builder, &class, &[("builder.store-size", "\"11Gi\"")]);
    builder.cli(["setup", "--yes"]).run().refused(Exit::Config, "no claim shrinks");
    assert_eq!(asked(&builder), "12Gi");
}

fn claim_that_cannot_become_what_is_asked_for_is_left_alone() {
    let (class, other) = (class(false), class(true));
    let builder = builder(&class, &[]);
    let life = builder.status()["pod"]["life"].clone();
    let generation = || cluster::field(&set(&builder), ".metadata.generation");
    let before = generation();
    let refused = |cause: &str, hint: &str| {
        let setup = builder.cli(["setup", "--yes"]).run();
        assert!(setup.stderr.contains(hint), "no {hint:?} in {setup}");
        setup.refused(Exit::Config, cause);
        assert_eq!((asked(&builder), generation()), ("10Gi".to_owned(), before.clone()));
    };
    // What else was asked for does not happen either.
    let cpus = ("builder.user.cpus", "1.5");
    configure(&builder, &class, &[("builder.store-size", "\"12Gi\""), cpus]);
    refused(&format!("its storage class {} does not allow it", class.name()), "store-size = \"10Gi\"");
    configure(&builder, &other, &[cpus]);
    refused(&format!("{} is asked for, and no claim changes it", other.name()), "storage-class");
    configure(&builder, &class, &[("kubernetes.access-mode", "\"ReadWriteOncePod\""), cpus]);
    refused("access mode ReadWriteOnce; ReadWriteOncePod is asked for", "clean --delete-store");
    configure(&builder, &class, &[("builder.home-size", "\"4Gi\""), cpus]);
    refused("no claim shrinks", "home-size = \"5Gi\"");
    assert_eq!(builder.status()["pod"]["life"], life);
}
