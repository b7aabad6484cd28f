//! `--help` of every command, as it is read. `UPDATE_SNAPSHOTS=1` writes them anew.

use std::path::Path;

use crate::sandbox::Sandbox;

const COMMANDS: [&[&str]; 43] = [
    &[],
    &["setup"],
    &["up"],
    &["down"],
    &["status"],
    &["list"],
    &["logs"],
    &["push-tarball"],
    &["build"],
    &["jobs"],
    &["attach"],
    &["cancel"],
    &["shell"],
    &["ssh"],
    &["ssh-config"],
    &["proxy"],
    &["copy-closure"],
    &["push-flake"],
    &["keys"],
    &["keys", "ls"],
    &["keys", "add"],
    &["keys", "rm"],
    &["hold"],
    &["release"],
    &["roots"],
    &["roots", "ls"],
    &["roots", "add"],
    &["roots", "rm"],
    &["maintenance"],
    &["clean"],
    &["config"],
    &["config", "check"],
    &["config", "show"],
    &["config", "apply"],
    &["config", "schema"],
    &["config", "default"],
    &["image"],
    &["image", "build"],
    &["image", "load"],
    &["image", "push"],
    &["completions"],
    &["man"],
    &["help", "setup"],
];

#[test]
fn every_command_explains_itself_with_examples() {
    let sandbox = Sandbox::new();
    let mut wrong = Vec::new();
    for command in COMMANDS {
        let args = command.iter().copied().chain((command.first() != Some(&"help")).then_some("--help"));
        let run = sandbox.cli(args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{command:?}");
        assert!(command.is_empty() || run.stdout.contains("Examples:"), "no example: {command:?}");
        let name = if command.is_empty() { "main".to_owned() } else { command.join("-") };
        if !matches(&name, &run.stdout) {
            wrong.push(name);
        }
    }
    assert!(wrong.is_empty(), "changed: {wrong:?} (UPDATE_SNAPSHOTS=1 writes them anew)");
}

/// Compares with the file, or writes it.
pub(crate) fn matches(name: &str, text: &str) -> bool {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(format!("{name}.txt"));
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    std::fs::read_to_string(&path).is_ok_and(|expected| expected == text)
}

#[test]
fn completions_and_man_pages_are_made() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let run = sandbox.cli(["completions", shell]);
        assert_eq!(run.code, 0, "{run:?}");
        assert!(run.stdout.contains("push-tarball"), "{shell}");
    }
    let run = sandbox.cli(["man", "pages"]);
    assert_eq!(run.code, 0, "{run:?}");
    for page in ["trampoline-cli.1", "trampoline-cli-setup.1", "trampoline-cli-push-tarball.1"] {
        let text = std::fs::read_to_string(sandbox.work().join("pages").join(page)).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
}
