//! What a prune of the engine, or a removal that was cut off, takes and leaves, in a storage where there is nothing else.

use e2e::builder::Builder;
use e2e::nix_files::quick;
use e2e::person::Person;
use e2e::podman::Storage;

crate::scenarios! {
    Podman: [
        pruned_builder_is_made_again_from_its_volumes,
        pod_without_containers_is_cleaned_away,
    ],
}

fn pruned_builder_is_made_again_from_its_volumes() {
    let storage = Storage::new();
    let builder = Builder::new(Person::in_storage(&storage), &[]);
    builder.cli(["setup", "--yes"]).run().ok();
    let tree = builder.pushed("pruned", &[("default.nix", &*quick("t-pruned", "still here"))]);
    let path = tree.cli(["build"]).run().ok();
    let pods = || storage.podman(["pod", "ps", "--format", "{{.Name}}"]).run().ok().stdout;

    storage.prune();
    assert_eq!(builder.state(), "running", "one that runs is left alone");
    builder.cli(["down"]).run().ok();
    assert_ne!(pods(), "");
    storage.prune();
    assert_eq!(pods(), "", "the prune takes a stopped pod");
    let status = builder.cli(["status"]).run().ok();
    assert!(status.stdout.contains("prune"), "status says how that comes: {status}");
    assert_eq!(tree.cli(["shell", "--", "cat", path.text()]).run().ok().text(), "still here");

    builder.cli(["down"]).run().ok();
    storage.prune();
    storage.podman(["volume", "prune", "-f"]).run().ok();
    assert_eq!(storage.podman(["volume", "ls", "-q"]).run().ok().stdout, "");
    let status = builder.cli(["status"]).run().ok();
    assert!(status.stdout.contains("absent"), "nothing is left of it: {status}");
    let refused = tree.cli(["build"]).run();
    assert!(refused.code != 0 && refused.stderr.contains("setup"), "{refused}");
    builder.cli(["setup", "--yes"]).run().ok();
    tree.cli(["push-tarball"]).run().ok();
    assert_eq!(tree.cli(["build"]).run().ok().stdout, path.stdout);
    builder.clean().ok();
}

fn pod_without_containers_is_cleaned_away() {
    let storage = Storage::new();
    let builder = Builder::new(Person::in_storage(&storage), &[]);
    builder.cli(["setup", "--yes"]).run().ok();
    let containers = storage.podman(["ps", "--format", "{{.Names}}"]).run().ok().stdout;
    let own = containers.lines().filter(|name| !name.ends_with("-infra"));
    let volumes = storage.podman(["volume", "ls", "-q"]).run().ok().stdout;
    storage.podman(["rm", "-f", "-t", "0"].into_iter().chain(own)).run().ok();
    storage.podman(["volume", "rm", "-f"].into_iter().chain(volumes.lines())).run().ok();

    let cleaned = builder.clean().ok();
    assert!(cleaned.stderr.contains("which has no containers"), "{cleaned}");
    assert_eq!(storage.podman(["pod", "ps", "-q"]).run().ok().stdout, "");
    assert!(builder.clean().ok().stderr.contains("nothing to remove"));
}
