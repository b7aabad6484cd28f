//! Stops, evictions and ends of parts, by the cluster's hand.

use e2e::builder::Builder;
use e2e::cluster;
use e2e::setting::setting;
use serde_json::json;

use super::{building, pod, set};

crate::scenarios! {
    Cluster: [
        idle_builder_costs_nothing_and_status_still_tells,
        wish_takes_back_a_stop_that_was_asked_for,
        deleted_pod_lets_the_build_end,
        killed_containers_come_back,
        eviction_waits_for_a_build,
        build_keeps_evictions_away_for_max_lifetime_at_most,
        monitor_without_permission_says_so_and_the_builder_serves,
        changed_template_waits_for_a_running_build,
    ],
}

fn idle_builder_costs_nothing_and_status_still_tells() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"5s\"")]);
    builder.wait_stopped(60);
    for _ in 0..2 {
        let status = builder.status();
        assert_eq!(status["state"], "stopped", "{status}");
        assert!(status["last_stop"]["last_activity"].as_u64().is_some_and(|at| at > 0), "{status}");
        assert!(status["last_stop"]["fs_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{status}");
        assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("idle")), "{status}");
        // Nor does asking wake it.
        assert_eq!(cluster::field(&set(&builder), ".spec.replicas"), "0");
        assert_eq!(setting().engine.pods(builder.name()), 0);
    }
}

/// A shell line that sets `agent` to the process id of user-init's agent.
const AGENT: &str = "for p in /proc/[0-9]*; do \
    case $(tr '\\0' ' ' <$p/cmdline) in */user-init' serve '*) agent=${p#/proc/};; esac; \
  done";

fn wish_takes_back_a_stop_that_was_asked_for() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"10s\"")]);
    let life = builder.status()["pod"]["life"].clone();
    // Whoever wakes the agent must be no process that it sees begin when it wakes.
    let waker = format!("{AGENT}; mkfifo ~/go && {{ (read x <~/go; kill -CONT $agent) >/dev/null 2>&1 & }}");
    builder.shell(&waker).ok();
    let settled = |status: &serde_json::Value| {
        let user = &status["pod"]["user"];
        user["last"]["source"].as_str().is_some_and(|source| source.contains("process"))
            && user["detached"].is_null()
    };
    let status = builder.status_where(settled);
    assert!(settled(&status), "{status}");
    let log = ["logs", "-f", &pod(&builder), "-c", "shutdown-monitor"];
    let mut log = cluster::kubectl(log).within(120).start();
    // One that does not answer keeps the question open.
    cluster::exec(&pod(&builder), "user", &format!("{AGENT}; kill -STOP $agent")).ok();
    log.line("stop: Ask");
    // What any command does first.
    let wish = ["annotate", "--overwrite", &set(&builder), "io.trampoline/wanted-at=now"];
    cluster::kubectl(wish).run().ok();
    setting().engine.as_root(builder.name(), "echo >/home/nix/go").ok();
    log.line("staying: somebody has changed the StatefulSet");
    assert_eq!(builder.shell("echo in").ok().text(), "in");
    assert_eq!(cluster::field(&set(&builder), ".spec.replicas"), "1");
    assert_eq!(builder.status()["pod"]["life"], life, "it never stopped");
}

fn deleted_pod_lets_the_build_end() {
    let builder = Builder::set_up(&[]);
    let (tree, build, id) = building(&builder, 6);
    cluster::kubectl(["delete", &pod(&builder), "--wait=false"]).run().ok();
    builder.wait_stopped(60);
    drop(build.output());
    // Another pod comes by itself.
    let path = tree.cli(["build"]).run().ok();
    let output = tree.shell(&format!("cat {}", path.text())).ok();
    assert_eq!(output.text(), id, "the first run's result was kept");
}

fn killed_containers_come_back() {
    let builder = Builder::set_up(&[]);
    let life = builder.status()["pod"]["life"].clone();
    // In the order of their names, as the kubelet lists them.
    for (index, container) in ["daemon", "maintenance", "shutdown-monitor", "user"].into_iter().enumerate() {
        setting().engine.crash(builder.name(), container);
        let restarts = format!(".status.containerStatuses[{index}].restartCount");
        cluster::wait_for(&cluster::namespace(), &pod(&builder), &restarts, "1");
        builder.cli(["up"]).run().ok();
        builder.shell("echo in >~/in && nix-store --add ~/in").ok();
        assert_eq!(builder.status()["pod"]["life"], life, "{container}: the pod was left alone");
    }
}

fn evict(builder: &Builder) -> e2e::output::Output {
    let name = format!("trampoline-{}-0", builder.name());
    let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": name } });
    let place = format!("/api/v1/namespaces/{}/pods/{name}/eviction", cluster::namespace());
    cluster::kubectl(["create", "--raw", &place, "-f", "-"]).input(eviction.to_string()).run()
}

/// Waits until so many evictions are let in.
fn evictions_let_in(builder: &Builder, number: &str) {
    let budget = format!("poddisruptionbudget/trampoline-{}", builder.name());
    cluster::wait_for(&cluster::namespace(), &budget, ".status.disruptionsAllowed", number);
}

fn eviction_waits_for_a_build() {
    let builder = Builder::set_up(&[]);
    evictions_let_in(&builder, "1");
    let (tree, build, id) = building(&builder, 8);
    evictions_let_in(&builder, "0");
    let refused = evict(&builder);
    assert!(refused.code != 0 && refused.stderr.contains("disruption budget"), "{refused}");
    let path = build.output().ok();
    evictions_let_in(&builder, "1");
    evict(&builder).ok();
    builder.wait_stopped(60);
    assert_eq!(tree.shell(&format!("cat {}", path.text())).ok().text(), id);
}

fn build_keeps_evictions_away_for_max_lifetime_at_most() {
    let builder = Builder::set_up(&[("shutdown.max-lifetime", "\"1m\"")]);
    let (_tree, build, _) = building(&builder, 600);
    evictions_let_in(&builder, "0");
    let refused = evict(&builder);
    assert!(refused.code != 0 && refused.stderr.contains("disruption budget"), "{refused}");
    // The shortest that can be asked for is a minute.
    evictions_let_in(&builder, "1");
    let jobs = builder.cli(["jobs", "--json"]).run().ok().json();
    assert_eq!(jobs[0]["state"], "running", "nor is it ended: {jobs}");
    evict(&builder).ok();
    // It would be let to its end. Whoever ends it may not hear of that, as the pod ends with it.
    let _ = builder.cli(["cancel", jobs[0]["id"].as_str().expect("its number")]).run();
    builder.wait_stopped(60);
    drop(build);
}

fn monitor_without_permission_says_so_and_the_builder_serves() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"5s\"")]);
    let binding = format!("rolebinding/trampoline-{}", builder.name());
    let mut session =
        builder.cli(["shell", "--", "sh", "-c", "echo begun; read x; echo served"]).start_typing();
    session.line("begun");
    cluster::kubectl(["delete", &binding]).run().ok();
    let mut log =
        cluster::kubectl(["logs", "-f", &pod(&builder), "-c", "shutdown-monitor"]).within(90).start();
    session.type_in(b"\n");
    assert!(session.output().ok().stdout.contains("served"));
    // Verb and resource.
    log.line("cannot get resource \"statefulsets/scale\"");
    assert_eq!(builder.shell("echo in").ok().text(), "in");
    assert_eq!(cluster::field(&set(&builder), ".spec.replicas"), "1");
    // `setup` gives it back what it needs.
    builder.cli(["setup", "--yes"]).run().ok();
    builder.wait_stopped(90);
    assert_eq!(builder.state(), "stopped");
}

fn changed_template_waits_for_a_running_build() {
    let builder = Builder::set_up(&[]);
    let life = builder.status()["pod"]["life"].clone();
    let (tree, build, id) = building(&builder, 6);
    builder.configure(&[("builder.user.cpus", "1.5")]);
    let changed = builder.cli(["setup", "--yes"]).run().ok();
    assert!(changed.stderr.contains("cpu"), "what changes: {changed}");
    let build = build.output().ok();
    assert_eq!(tree.shell(&format!("cat {}", build.text())).ok().text(), id);
    assert_ne!(builder.status()["pod"]["life"], life, "limits need another pod");
    let again = builder.cli(["setup", "--yes"]).run().ok();
    assert!(again.stderr.contains("nothing to change"), "{again}");
}
