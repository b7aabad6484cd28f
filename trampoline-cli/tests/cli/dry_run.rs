//! What podman would be given. A script answers for podman: nothing is made.

use crate::help::matches;
use crate::sandbox::{Run, Sandbox};

fn info(rootless: bool, cgroup: &str, cpus: u32, memory: u64, driver: &str) -> String {
    format!(
        "{{\"host\":{{\"cgroupVersion\":\"{cgroup}\",\"cgroupControllers\":[\"cpu\",\"memory\"],\"cpus\":{cpus},\
         \"memTotal\":{memory},\"networkBackend\":\"netavark\",\"security\":{{\"rootless\":{rootless}}},\
         \"slirp4netns\":{{\"executable\":\"/x\"}},\"idMappings\":{{\"uidmap\":[{{\"container_id\":0,\"size\":1}},\
         {{\"container_id\":1,\"size\":100}}],\"gidmap\":[]}}}},\
         \"store\":{{\"graphDriverName\":\"{driver}\",\"volumePath\":\"/absent-volumes\"}},\
         \"version\":{{\"Version\":\"4.3.1\"}}}}"
    )
}

/// podman that has nothing yet, and may not be asked to make anything.
fn podman(sandbox: &Sandbox, info: &str) {
    sandbox.program(
        "podman",
        &format!("case $1 in info) echo '{info}';; ps|volume) echo '[]';; *) echo \"podman $*\" >&2; exit 99;; esac"),
    );
}

/// Against the snapshot, but for the owner, who names this machine.
fn assert_as_it_was(snapshot: &str, run: &Run) {
    let lines = run.stdout.lines().filter(|line| !line.contains("io.trampoline.owner"));
    let shown: String = lines.map(|line| format!("{line}\n")).collect();
    assert!(matches(snapshot, &shown), "changed (UPDATE_SNAPSHOTS=1 writes it anew):\n{shown}");
}

#[test]
fn the_pod_is_as_it_was() {
    let sandbox = Sandbox::new();
    podman(&sandbox, &info(false, "v2", 64, 64 << 30, "overlay"));
    sandbox.write(
        "trampoline.toml",
        "[builder]\nname = \"gpu\"\nssh-port = 22999\nimage = \"localhost/mine:1\"\n[builder.user]\ncpus = 0.5\n",
    );
    let run = sandbox.cli(["setup", "--dry-run"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_as_it_was("dry-run", &run);
    assert!(
        run.stdout.contains("io.trampoline.owner: alice@")
            || run.stdout.contains("io.trampoline.owner: \"alice@")
    );
}

#[test]
fn a_small_machine_lowers_defaults_and_refuses_wishes() {
    let sandbox = Sandbox::new();
    podman(&sandbox, &info(false, "v2", 2, 4 << 30, "overlay"));
    let run = sandbox.cli(["setup", "--dry-run", "--json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let shown: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    let daemon = &shown["pod"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!((daemon["cpu"].as_str(), daemon["memory"].as_str()), (Some("2"), Some("4Gi")), "{daemon}");
    assert!(shown["notes"][0].as_str().unwrap().contains("daemon 4.0 GiB (default 16Gi)"));
    sandbox.write("trampoline.toml", "[builder.daemon]\ncpus = 8\n");
    let run = sandbox.cli(["setup", "--dry-run"]);
    run.refused(78, "trampoline.toml:2: builder.daemon.cpus = 8 cannot be met: this machine has 2");
}

#[test]
fn rootless_without_delegation_has_no_limits() {
    let sandbox = Sandbox::new();
    podman(&sandbox, &info(true, "v1", 2, 4 << 30, "overlay"));
    let run = sandbox.cli(["setup"]);
    // A range of 101 ids is too small; which refusal comes first depends on what this machine has installed.
    assert_eq!(run.code, 71, "{run:?}");
    assert!(run.stderr.contains("\nhint: "), "{run:?}");
}

#[test]
fn slow_storage_is_named() {
    let sandbox = Sandbox::new();
    podman(&sandbox, &info(false, "v2", 64, 64 << 30, "vfs"));
    let run = sandbox.cli(["setup", "--dry-run"]);
    assert!(run.stderr.contains("vfs") && run.stderr.contains("fuse-overlayfs"), "{run:?}");
}

/// Nothing answers: what a cluster would be given needs none.
#[test]
fn the_objects_of_a_cluster_are_as_they_were() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "trampoline.toml",
        "[builder]\nname = \"gpu\"\nengine = \"kubernetes\"\nimage = \"registry.example/mine:1\"\nsystem = \"aarch64-linux\"\n\
         [kubernetes]\nnamespace = \"team\"\nstorage-class = \"fast\"\nopen-ports = [\"9100\"]\n\
         env = { TZ = \"UTC\" }\nextra-volumes = [{ name = \"src\", mountPath = \"/src\", emptyDir = {} }]\n\
         [kubernetes.pod-patch.spec]\nschedulerName = \"mine\"\n",
    );
    let run = sandbox.cli(["setup", "--dry-run"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_as_it_was("dry-run-kubernetes", &run);
    assert!(!run.stdout.contains("replicas"), "what is applied must not wake a builder");
    assert!(run.stderr.contains("isolation: userns, since no cluster was asked"), "{run:?}");
}

#[test]
fn hosts_stand_with_their_addresses_and_one_without_is_refused() {
    let sandbox = Sandbox::new();
    let cluster =
        "builder.engine = \"kubernetes\"\nkubernetes.egress = [\"cache.example\", \"substituters\"]\n";
    let alias = "kubernetes.host-aliases = { \"cache.example\" = \"192.0.2.7\" }\n";
    let caches = |url: &str| format!("{cluster}{alias}daemon.substituters = [\"{url}\"]\n");
    sandbox.write("trampoline.toml", caches("http://localhost:8080"));
    let run = sandbox.cli(["setup", "--dry-run"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("io.trampoline.egress: \"cache.example: 192.0.2.7; localhost: "), "{run:?}");
    // A name that nobody can have.
    sandbox.write("trampoline.toml", caches("https://cache.invalid"));
    let run = sandbox.cli(["setup", "--dry-run"]);
    run.refused(78, "trampoline.toml:4: daemon.substituters: host cache.invalid: ");
    run.hints("host-aliases");
    sandbox.cli(["--engine", "podman", "setup", "--dry-run"]).refused(72, "podman is not installed");
}

#[test]
fn an_isolation_that_was_given_is_not_explained() {
    let sandbox = Sandbox::new();
    for (isolation, privileged) in [("userns", false), ("privileged", true)] {
        sandbox.write(
            "trampoline.toml",
            format!("builder.engine = \"kubernetes\"\ndaemon.isolation = \"{isolation}\"\n"),
        );
        let run = sandbox.cli(["setup", "--dry-run"]);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(run.stdout.contains("privileged: true"), privileged, "{run:?}");
        assert_eq!(run.stdout.contains("hostUsers: false"), !privileged, "{run:?}");
        assert!(!run.stderr.contains("isolation:"), "{run:?}");
    }
}

#[test]
fn podman_has_no_user_namespaces_of_that_kind() {
    let sandbox = Sandbox::new();
    podman(&sandbox, &info(false, "v2", 64, 64 << 30, "overlay"));
    sandbox.write("trampoline.toml", "[daemon]\nisolation = \"userns\"\n");
    for args in [&["setup"][..], &["setup", "--dry-run"]] {
        let run = sandbox.cli(args);
        run.refused(
            78,
            "trampoline.toml:2: daemon.isolation = \"userns\": podman's pods have no user namespace",
        );
        run.hints("as an ordinary user");
    }
}

#[test]
fn a_table_of_the_api_is_refused_before_anybody_is_asked() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "trampoline.toml",
        "[builder]\nengine = \"kubernetes\"\n[[kubernetes.pod-patch.spec.containers]]\nname = \"user\"\nimagePullPolicie = \"Never\"\n",
    );
    for args in [&["config", "check"][..], &["setup", "--dry-run"], &["status"]] {
        let run = sandbox.cli(args);
        run.refused(
            78,
            "trampoline.toml:5: kubernetes.pod-patch.spec.containers.0.imagePullPolicie: no such field",
        );
        run.hints("kubectl explain");
    }
}
