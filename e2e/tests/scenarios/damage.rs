//! What a disk has lost or a power cut has left behind is found, named, and served to nobody.

use e2e::builder::Builder;
use e2e::setting::setting;
use serde_json::Value;

crate::scenarios! {
    Any: [
        damaged_path_is_named_and_served_no_more,
        damage_is_found_by_a_builder_that_nobody_asks,
        damaged_path_of_the_image_is_made_anew,
        machine_that_went_down_loses_only_what_is_named,
    ],
}

/// Adds a path that nothing but its root keeps.
fn added(builder: &Builder, name: &str) -> String {
    let line = format!(
        "echo {name} >{name} && nix-store --add-root $HOME/root-{name} -r $(nix-store --add {name}) >/dev/null && readlink $HOME/root-{name}"
    );
    builder.shell(&line).ok().text().to_owned()
}

/// A shell line that changes a byte of a file, and nothing else that can be seen of it.
fn flip(file: &str) -> String {
    format!(
        "set -e; chmod u+w {file}; printf '!' | dd of={file} bs=1 conv=notrunc status=none; chmod u-w {file}; touch -d @1 {file}"
    )
}

/// Damaged paths, the newest last, once it tells of one with this fate.
fn damage(builder: &Builder, fate: &str) -> Vec<Value> {
    let paths = |status: &Value| status["pod"]["damage"]["paths"].as_array().cloned().unwrap_or_default();
    let told = builder.status_where(|status| paths(status).last().is_some_and(|last| last["fate"] == fate));
    paths(&told)
}

fn damaged_path_is_named_and_served_no_more() {
    let builder = Builder::set_up(&[("daemon.substituters", "[]")]);
    let (lost, kept) = (added(&builder, "lost"), added(&builder, "kept"));
    setting().engine.as_root(builder.name(), &flip(&lost)).ok();
    let found = builder.cli(["maintenance", "--verify", "--json"]).run().ok().json();
    assert_eq!(found["damaged"].as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(
        (&found["damaged"][0]["path"], &found["damaged"][0]["fate"]),
        (&lost.as_str().into(), &"removed".into())
    );
    builder
        .shell(&format!(
            "[ ! -e {lost} ] && [ \"$(cat {kept})\" = kept ] && ! nix-store --check-validity {lost}"
        ))
        .ok();
    builder.says(&lost);
    let again = builder.cli(["maintenance", "--verify"]).run().ok();
    assert!(again.stdout.contains("nothing is damaged"), "{again}");
    assert_eq!(added(&builder, "lost"), lost, "it can be had again");
}

fn damage_is_found_by_a_builder_that_nobody_asks() {
    // In one look it reads all.
    let builder = Builder::set_up(&[("daemon.substituters", "[]"), ("maintenance.verify", "\"30d\"")]);
    let lost = added(&builder, "lost");
    setting().engine.as_root(builder.name(), &flip(&lost)).ok();
    builder.cli(["down"]).run().ok();
    let long_ago = "cd /volume/.trampoline; [ -s slice.json ]; echo '{\"at\":1,\"cursor\":\"\"}' >slice.json";
    setting().engine.with_store(builder.name(), &format!("set -e; {long_ago}")).ok();
    builder.cli(["up"]).run().ok();
    let status = builder.status_where(|status| status["pod"]["damage"]["paths"][0]["path"] == lost.as_str());
    assert_eq!(status["pod"]["damage"]["paths"][0]["fate"], "removed", "{status}");
}

fn damaged_path_of_the_image_is_made_anew() {
    let builder = Builder::set_up(&[("daemon.substituters", "[]")]);
    let find = "path=$(readlink -f \"$(command -v nix-store)\"); cd /nix/store; path=${path#/nix/store/}; path=${path%%/*}; \
                find \"$PWD/$path\" -type f -size +1k \\( -path '*/doc/*' -o -path '*/man/*' -o -path '*/locale/*' \\) | sort | head -n 1";
    let file = builder.shell(find).ok().text().to_owned();
    assert!(file.starts_with("/nix/store/"), "a file that nobody needs: {file:?}");
    setting().engine.as_root(builder.name(), &flip(&file)).ok();
    let found = builder.cli(["maintenance", "--verify"]).run().ok();
    assert!(
        found.stdout.contains("1 damaged") && found.stdout.contains("when the builder starts next"),
        "{found}"
    );
    builder.cli(["down"]).run().ok();
    builder.shell("true").ok();
    assert_eq!(builder.broken(), "");
    assert_eq!(damage(&builder, "restored").last().map(|one| one["fate"].clone()), Some("restored".into()));
}

fn machine_that_went_down_loses_only_what_is_named() {
    let builder = Builder::set_up(&[]);
    let (lost, kept) = (added(&builder, "lost"), added(&builder, "kept"));
    setting().engine.vanish(builder.name());
    // As a power cut leaves them: the file is empty, and the checkpoint is that of another kernel.
    let cut = format!(
        "set -e; cd /volume; [ -s .trampoline/checkpoint.json ]; : >{}; \
         printf '{{\"at\":%s,\"boot\":\"another\",\"clean\":false}}' \"$(date +%s)\" >.trampoline/checkpoint.json",
        lost.strip_prefix("/nix/").expect("a store path")
    );
    setting().engine.with_store(builder.name(), &cut).ok();
    builder.shell(&format!("[ ! -e {lost} ] && [ \"$(cat {kept})\" = kept ]")).ok();
    let damage = damage(&builder, "removed");
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!((&damage[0]["path"], &damage[0]["found"]), (&lost.as_str().into(), &"start".into()));
    assert_eq!(builder.broken(), "");
    // Left in order, nothing is looked at again.
    builder.cli(["down"]).run().ok();
    builder.shell("true").ok();
    let log = builder.cli(["logs", "daemon"]).run().ok();
    assert!(!log.stdout.contains("verifying what is new"), "{log}");
}
