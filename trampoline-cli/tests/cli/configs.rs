//! `config`, and which file holds.

use crate::sandbox::Sandbox;

#[test]
fn a_wrong_file_is_refused_before_the_engine_is_asked() {
    let sandbox = Sandbox::new();
    sandbox.write("trampoline.toml", "[builder]\nnmae = \"x\"\n");
    for args in [&["setup"][..], &["status"], &["config", "check"], &["config", "show"], &["build"]] {
        let run = sandbox.cli(args);
        run.refused(78, "trampoline.toml:2: builder.nmae");
        assert!(run.stderr.contains("did you mean `name`?"), "{run:?}");
        run.hints("config default");
    }
}

#[test]
fn the_default_file_is_right_and_changes_nothing() {
    let sandbox = Sandbox::new();
    let without = sandbox.cli(["config", "show"]);
    let file = sandbox.cli(["config", "default"]);
    sandbox.write("trampoline.toml", &file.stdout);
    let run = sandbox.cli(["config", "check"]);
    assert_eq!(run.code, 0, "{run:?}");
    let with = sandbox.cli(["config", "show"]);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(values(&without.stdout), values(&with.stdout));
    assert!(without.stdout.contains("builder.engine = \"podman\"  # default"), "{}", without.stdout);
    let schema: serde_json::Value = serde_json::from_str(&sandbox.cli(["config", "schema"]).stdout).unwrap();
    assert!(schema["properties"]["builder"].is_object());
}

#[test]
fn the_nearest_file_upwards_holds_and_an_option_overrides() {
    let sandbox = Sandbox::new();
    sandbox.write("trampoline.toml", "[builder]\nname = \"above\"\n");
    sandbox.write("other.toml", "[builder]\nname = \"other\"\n");
    let deep = sandbox.write("a/b/file", "").parent().unwrap().to_owned();
    let show = |args: &[&str], dir: &std::path::Path| {
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_trampoline-cli"), args);
        String::from_utf8(command.current_dir(dir).output().unwrap().stdout).unwrap()
    };
    assert!(show(&["config", "show"], &deep).contains("builder.name = \"above\""));
    sandbox.write("a/trampoline.toml", "[builder]\nname = \"nearer\"\n");
    assert!(show(&["config", "show"], &deep).contains("builder.name = \"nearer\""));
    let other = sandbox.work().join("other.toml");
    let shown = show(&["config", "show", "--config", other.to_str().unwrap()], &deep);
    assert!(shown.contains("builder.name = \"other\"") && shown.contains("other.toml:2"), "{shown}");
    let absent = sandbox.cli(["--config", "absent.toml", "config", "check"]);
    absent.refused(78, "absent.toml");
}

/// What the pages show is accepted.
#[test]
fn every_example_of_the_docs_is_right() {
    let sandbox = Sandbox::new();
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/kubernetes.md");
    let page = std::fs::read_to_string(page).unwrap();
    let examples: Vec<&str> =
        page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(examples.len() >= 3);
    // In place of a name server.
    let known = "[kubernetes.host-aliases]\n\"git.example.org\" = \"192.0.2.1\"\n\"cache.nixos.org\" = \"192.0.2.2\"\n";
    for example in examples {
        sandbox.write("trampoline.toml", format!("{example}\n{known}"));
        let run = sandbox.cli(["--engine", "kubernetes", "setup", "--dry-run"]);
        assert_eq!(run.code, 0, "{example}\n{run:?}");
    }
}

#[test]
fn reader_that_leaves_is_no_failure() {
    let sandbox = Sandbox::new();
    for args in [
        &["config", "show"][..],
        &["config", "default"],
        &["config", "show", "--json"],
        &["completions", "bash"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output =
            sandbox.command(env!("CARGO_BIN_EXE_trampoline-cli"), args).stdout(writer).output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), vec![]), "{args:?}");
    }
}
