//! At least one wrong thing per command, and what is said.

use crate::sandbox::Sandbox;

#[test]
fn wrong_usage_has_a_code_of_its_own() {
    let sandbox = Sandbox::new();
    for args in [
        &["nonsense"][..],
        &["setup", "--nonsense"],
        &["up", "extra"],
        &["down", "--later"],
        &["status", "alice"],
        &["list", "-x"],
        &["logs", "nobody"],
        &["logs", "--tail", "many"],
        &["push-tarball", "HEAD", "--dirty"],
        &["build", "-f"],
        &["shell", "ls"],
        &["ssh", "ls"],
        &["ssh-config", "--print"],
        &["proxy"],
        &["copy-closure"],
        &["push-flake", "a", "b"],
        &["roots", "add", "result"],
        &["roots", "add", "result", "--as", "../x"],
        &["roots", "add", "result", "--as", "x", "--ttl", "1s"],
        &["roots", "rm", ".hidden"],
        &["maintenance", "now"],
        &["hold", "forever"],
        &["hold", "--reason", "why"],
        &["release", "2h"],
        &["clean", "--keep-store", "--delete-store"],
        &["config", "explain"],
        &["image", "push"],
        &["completions", "csh"],
        &["man"],
        &["-q", "-v", "list"],
    ] {
        let run = sandbox.cli(args);
        assert_eq!(run.code, 64, "{args:?}: {run:?}");
        assert!(run.stderr.starts_with("error: "), "{args:?}: {run:?}");
        assert_eq!(run.stdout, "", "{args:?}");
    }
}

#[test]
fn with_json_an_error_is_an_object() {
    let sandbox = Sandbox::new();
    for (args, exit) in [(&["--json", "status"][..], 72), (&["--json", "nonsense"], 64)] {
        let run = sandbox.cli(args);
        let object: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(object["error"]["exit"], exit, "{run:?}");
        assert_eq!(run.code, exit);
        assert!(object["error"]["message"].as_str().is_some_and(|text| !text.is_empty()));
        assert!(object["error"]["hint"].is_string());
        assert!(run.stderr.starts_with("error: "), "people read stderr: {run:?}");
    }
}

#[test]
fn without_podman_every_command_says_what_to_install() {
    let sandbox = Sandbox::new();
    sandbox.borrow("git");
    sandbox.program("nix", "echo nix 2.26");
    sandbox.git(["init", "-q"]);
    sandbox.git(["commit", "-q", "--allow-empty", "-m", "x"]);
    for args in [
        &["setup"][..],
        &["setup", "--dry-run"],
        &["up"],
        &["down"],
        &["status"],
        &["list"],
        &["logs"],
        &["push-tarball"],
        &["build"],
        &["shell"],
        &["ssh"],
        &["ssh-config"],
        &["proxy", "alice"],
        &["copy-closure", "/nix/store/x"],
        &["push-flake"],
        &["maintenance"],
        &["clean"],
    ] {
        let run = sandbox.cli(args);
        run.refused(72, "podman is not installed, or not on PATH");
        run.hints("apt install podman");
    }
}

#[test]
fn names_are_checked_before_anything_else() {
    let sandbox = Sandbox::new();
    for name in ["Alice", "1st", "a_b", "a-", "", "a".repeat(41).as_str(), "a/b"] {
        let run = sandbox.cli(["--name", name, "status"]);
        run.refused(64, "cannot name a builder");
        run.hints("lower-case");
    }
    sandbox.cli(["proxy", "../x"]).refused(64, "cannot name a builder");
}

#[test]
fn without_git_or_a_repository_it_is_said() {
    let sandbox = Sandbox::new();
    sandbox.cli(["push-tarball"]).refused(71, "git is not installed");
    sandbox.borrow("git");
    let run = sandbox.cli(["push-tarball"]);
    run.refused(64, "is not in a git repository");
    run.hints("git init");
    sandbox.cli(["build"]).refused(64, "is not in a git repository");
    sandbox.git(["init", "-q"]);
    let run = sandbox.cli(["push-tarball"]);
    run.refused(64, "HEAD names nothing");
    run.hints("--dirty");
    sandbox.cli(["push-tarball", "no-such"]).refused(64, "no-such names nothing");
    sandbox.cli(["push-tarball", "--output=x", "--", "--all"]).refused(64, "--all names nothing");
}

#[test]
fn without_nix_it_is_said_what_works() {
    let sandbox = Sandbox::new();
    for args in [&["copy-closure", "/nix/store/x"][..], &["push-flake"]] {
        let run = sandbox.cli(args);
        run.refused(71, "this machine has no Nix");
        run.hints("push-tarball");
    }
}

#[test]
fn a_cluster_that_cannot_be_reached_is_named() {
    let sandbox = Sandbox::new();
    let run = sandbox.cli(["--engine", "kubernetes", "status"]);
    run.refused(78, "no kubeconfig");
    run.hints("KUBECONFIG");
    let kubeconfig = sandbox.work().join("config");
    let cluster = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
                   contexts: [{name: a, context: {cluster: a, user: a}}]\n\
                   clusters: [{name: a, cluster: {server: 'https://127.0.0.1:9'}}]\nusers: []\n";
    std::fs::write(&kubeconfig, cluster).unwrap();
    sandbox.write("trampoline.toml", "[builder]\nengine = \"kubernetes\"\n");
    let mut command = sandbox.command(env!("CARGO_BIN_EXE_trampoline-cli"), ["--context", "b", "status"]);
    let output = command.env("KUBECONFIG", &kubeconfig).output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no context b in the kubeconfig; it has: a"));
}

#[test]
fn a_namespace_is_no_matter_of_podman() {
    let sandbox = Sandbox::new();
    let run = sandbox.cli(["--engine", "podman", "--namespace", "x", "status"]);
    run.refused(64, "are for a cluster");
}

#[test]
fn without_a_home_it_is_said() {
    let sandbox = Sandbox::new();
    let mut command = sandbox.command(env!("CARGO_BIN_EXE_trampoline-cli"), ["status"]);
    let output = command.env_remove("HOME").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("HOME"));
}

/// As podman says it of a volume of somebody else's, which is removed while it lists them all.
#[test]
fn podman_that_misses_what_goes_meanwhile_is_asked_again() {
    let sandbox = Sandbox::new();
    let asked = sandbox.path("asked");
    let script = format!(
        "case $1 in volume) read -r times 2>/dev/null <{0}; echo \"x$times\" >{0}; [ \"$times\" = xx ] || {{ \
         echo 'Error: no volume with name x found in database: no such volume' >&2; exit 125; }};; esac; echo '[]'",
        asked.display()
    );
    sandbox.program("podman", &script);
    let run = sandbox.cli(["list", "--json"]);
    assert_eq!((run.code, run.stdout.trim()), (0, "[]"), "{run:?}");
    // Something else is not forgiven.
    sandbox.program("podman", "echo 'Error: no such file or directory' >&2; exit 125");
    sandbox.cli(["list"]).refused(72, "no such file or directory");
}

#[test]
fn podman_that_fails_is_quoted() {
    let sandbox = Sandbox::new();
    sandbox.program("podman", "echo 'Error: database is locked' >&2; exit 125");
    sandbox.cli(["status"]).refused(72, "database is locked");
}
