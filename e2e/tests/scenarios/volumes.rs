//! Volumes that a builder must not touch, and those that it takes over.

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::nix_files::quick;
use e2e::person::Person;
use e2e::setting::setting;
use e2e::volume::{Mount, bind};

crate::scenarios! {
    Any: [
        foreign_volume_is_refused_and_left_alone,
        volume_without_room_is_refused,
    ],
    Podman: [
        read_only_volume_is_refused,
        volume_of_a_running_builder_is_refused,
    ],
    Root: [
        store_of_a_newer_nix_is_refused_and_left_alone,
        copied_store_is_adopted_only_when_asked,
        newer_image_merges_and_keeps_what_users_built,
        clean_keeps_the_store_when_asked,
    ],
}

/// Refused with this exit code, in these words, and nothing of ours stays but the volume that was there.
fn refused(builder: &Builder, exit: Exit, part: &str) {
    builder.cli(["setup"]).run().refused(exit, part);
    let left = setting().engine.left(builder.name());
    assert_eq!(left, [format!("trampoline-{}-store", builder.name())]);
}

fn foreign_volume_is_refused_and_left_alone() {
    let engine = setting().engine;
    let builder = Builder::new(Person::new(), &[]);
    engine.make_store(builder.name(), &[], "echo mine >/volume/thesis");
    refused(&builder, Exit::NotOurs, "not a store of ours");
    let left = engine.with_store(builder.name(), "cd /volume; ls -A; cat thesis").ok();
    assert_eq!(left.text(), "thesis\nmine");
    engine.remove_store(builder.name());
}

fn volume_without_room_is_refused() {
    refused(&Builder::with_small("store", "size=24m", &[]), Exit::NoRoom, "no room");
}

fn read_only_volume_is_refused() {
    let engine = setting().engine;
    let mount = Mount::new("size=1g");
    let builder = Builder::new(Person::new(), &[]);
    engine.make_store(builder.name(), &mount.options(), "");
    mount.read_only(true);
    refused(&builder, Exit::ReadOnly, "read-only");
    mount.read_only(false);
    builder.cli(["setup"]).run().ok();
    builder.cli(["down"]).run().ok();
    // As the kernel does when a disk fails.
    mount.read_only(true);
    for command in ["up", "setup"] {
        builder.cli([command]).run().refused(Exit::ReadOnly, "read-only");
        builder.cli(["down", "--now"]).run().ok();
    }
    mount.read_only(false);
    builder.cli(["up"]).run().ok();
    builder.clean().ok();
    engine.remove_store(builder.name());
}

fn volume_of_a_running_builder_is_refused() {
    let engine = setting().engine;
    let first = Builder::set_up(&[]);
    let second = Builder::new(Person::new(), &[]);
    engine.make_store(second.name(), &bind(engine.store_folder(first.name()).as_ref()), "");
    refused(&second, Exit::InUse, "in use");
    engine.remove_store(second.name());
    first.cli(["shell", "--", "true"]).run().ok();
}

fn store_of_a_newer_nix_is_refused_and_left_alone() {
    let engine = setting().engine;
    let builder = Builder::set_up(&[]);
    let version =
        builder.status()["pod"]["ready"]["nix_version"].as_str().expect("known when ready").to_owned();
    builder.cli(["down"]).run().ok();
    let replace = |old: &str, new: &str| {
        let line = format!(
            "cd /volume/.trampoline && text=$(cat mark.json) && \
             printf '%s' \"${{text%%{old}*}}{new}${{text#*{old}}}\" >mark.json && cat mark.json"
        );
        engine.with_store(builder.name(), &line).ok().stdout
    };
    let before = replace(&version, "99.9");
    assert!(before.contains("99.9"), "{before}");
    builder.cli(["up"]).run().refused(Exit::StoreNewer, "99.9");
    let _ = builder.cli(["down", "--now"]).run();
    let after = engine.with_store(builder.name(), "cat /volume/.trampoline/mark.json").ok();
    assert_eq!(after.stdout, before, "left untouched");
    replace("99.9", &version);
    builder.cli(["up"]).run().ok();
}

fn copied_store_is_adopted_only_when_asked() {
    let engine = setting().engine;
    let builder = Builder::new(Person::new(), &[]);
    let copy = "cp -a /nix/. /volume/ && echo user-made >/tmp/made && \
                nix-store --store 'local?root=/tmp/root' --version >/dev/null && ls -A /volume";
    engine.make_store(builder.name(), &[], copy);
    refused(&builder, Exit::NotOurs, "--adopt-store");
    builder.cli(["setup", "--adopt-store"]).run().ok();
    let tree = builder.pushed("adopted", &[("default.nix", &*quick("t-adopted", "built"))]);
    tree.cli(["build"]).run().ok();
    tree.shell("nix-store --verify").ok();
    builder.clean().ok();
    engine.remove_store(builder.name());
}

fn newer_image_merges_and_keeps_what_users_built() {
    let engine = setting().engine;
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("merge", &[("default.nix", &*quick("t-merge", "user-built"))]);
    let path = tree.cli(["build"]).run().ok();
    let image = format!("localhost/t-newer:{}", std::process::id());
    let line = "export HOME=/tmp NIX_REMOTE=; echo of the newer image >/tmp/extra && \
                nix-store --add /tmp/extra && rm /tmp/extra && /opt/trampoline/bin/daemon-init bake";
    engine.derive_image(&image, &setting().image, line);
    builder.configure(&[("builder.image", &format!("{image:?}"))]);
    let told = builder.cli(["setup"]).run().ok();
    assert!(told.stderr.contains(&image), "{told}");
    let look = format!("cat {} /nix/store/*-extra", path.text());
    assert_eq!(tree.shell(&look).ok().text(), "user-built\nof the newer image");
    builder.cli(["maintenance"]).run().ok();
    assert_eq!(tree.shell(&look).ok().text(), "user-built\nof the newer image", "both are roots");
    builder.clean().ok();
    engine.remove_image(&image);
}

fn clean_keeps_the_store_when_asked() {
    let builder = Builder::set_up(&[]);
    let tree = builder.pushed("keep", &[("default.nix", &*quick("t-keep", "kept"))]);
    let path = tree.cli(["build"]).run().ok();
    let asked = builder.cli(["clean"]).run();
    assert!(asked.code != 0 && asked.stderr.contains("--keep-store"), "nobody is there to answer: {asked}");
    builder.cli(["clean", "--keep-store"]).run().ok();
    let left = setting().engine.left(builder.name());
    let kept = ["home", "store"].map(|volume| format!("trampoline-{}-{volume}", builder.name()));
    assert_eq!(left, kept);
    builder.cli(["setup"]).run().ok();
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), "kept");
}
