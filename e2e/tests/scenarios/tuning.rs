//! What an operator turns and reads: the configuration of a builder that runs, its logs, its metrics.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::places::Container;
use e2e::builder::Builder;
use e2e::nix_files::{quick, slow};
use e2e::setting::setting;
use serde_json::Value;

crate::scenarios! {
    Any: [
        a_changed_configuration_reaches_all_agents_of_a_running_builder_at_once,
        metrics_tell_what_the_builder_has_done,
    ],
    Root: [
        logs_outlive_the_pod,
    ],
    Podman: [
        a_killed_builder_is_said_to_be_killed_and_its_logs_are_there,
        agents_keep_the_last_good_configuration_and_say_so,
    ],
}

pub(crate) fn digests(status: &Value) -> Vec<&str> {
    let agents = status["pod"]["agents"].as_array().expect("agents");
    agents.iter().filter_map(|agent| agent["config"].as_str()).collect()
}

fn a_changed_configuration_reaches_all_agents_of_a_running_builder_at_once() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"1h\"")]);
    let before = builder.status();
    builder.configure(&[
        ("shutdown.idle-timeout", "\"45m\""),
        ("log.format", "\"json\""),
        ("log.level", "\"debug\""),
        ("daemon.max-jobs", "1"),
    ]);
    let differs = builder.cli(["status"]).run().ok();
    assert!(differs.stdout.contains("config apply"), "status says that the file is another: {differs}");

    let began = Instant::now();
    let applied = builder.cli(["config", "apply", "--json"]).run().ok();
    let took = began.elapsed();
    // The agents take it within 2 s of its arrival; the rest is the engine's and the client's. A kubelet left alone takes a minute.
    assert!(took < Duration::from_secs(20), "took {took:?}");
    let now = applied.json();
    for (key, when) in [
        ("shutdown.idle-timeout", "at once"),
        ("log.format", "at once"),
        ("daemon.max-jobs", "after a restart of the builder"),
    ] {
        let changes = now["changes"].as_array().expect("changes");
        let change =
            changes.iter().find(|change| change["what"] == key).unwrap_or_else(|| panic!("no {key}: {now}"));
        assert_eq!(change["when"], when, "{change}");
    }
    let all = vec![now["config"].as_str().expect("a digest"); 4];
    let status = builder.status_where(|status| digests(status) == all);
    assert_eq!(status["pod"]["life"], before["pod"]["life"], "the same pod");
    assert_eq!(digests(&status), all, "{status}");
    assert_eq!(status["config"]["differs_from"], Value::Null, "{status}");
    let notes = status.to_string();
    assert!(notes.contains("daemon.max-jobs counts after a restart"), "what waits is said: {notes}");
    // The change itself is still said as before; the next one is an object.
    let text_of = |of: Container| {
        let log = builder.cli(["logs", of.name()]).run().ok();
        format!("{}{}", log.stdout, log.stderr)
    };
    for of in Container::ALL {
        let text = text_of(of);
        let said = r#"key="log.level" old="\"info\"" new="\"debug\"""#;
        assert!(text.contains(said), "{} does not say {said}: {text}", of.agent());
    }
    builder.configure(&[
        ("shutdown.idle-timeout", "\"45m\""),
        ("log.format", "\"json\""),
        ("daemon.max-jobs", "1"),
    ]);
    builder.cli(["config", "apply"]).run().ok();
    let status = builder.status().to_string();
    assert!(status.contains("daemon.max-jobs counts after a restart"), "it still waits: {status}");
    for of in Container::ALL {
        let text = text_of(of);
        let mut lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let said = lines.rfind(|line| line["key"] == "log.level");
        let said = said.unwrap_or_else(|| panic!("{} says nothing of it: {text}", of.agent()));
        for (key, value) in
            [("old", "\"debug\""), ("new", "\"info\""), ("agent", of.agent()), ("builder", builder.name())]
        {
            assert_eq!(said[key], value, "{said}");
        }
    }
}

fn agents_keep_the_last_good_configuration_and_say_so() {
    let builder = Builder::set_up(&[]);
    let good = builder.status();
    builder.configure(&[("shutdown.idle-timeout", "\"soon\"")]);
    builder.cli(["config", "apply"]).run().refused(Exit::Config, "idle-timeout");
    builder.configure(&[]);
    assert_eq!(digests(&builder.status()), digests(&good), "it was refused here");

    // Somebody else's way in.
    let volume = format!("trampoline-{}-config", builder.name());
    let format = ["volume", "inspect", "--format", "{{.Mountpoint}}", &volume];
    let folder = builder.call("podman").args(format).run().ok();
    let mut log = builder.cli(["logs", "maintenance", "-f"]).start();
    std::fs::write(format!("{}/trampoline.toml", folder.text()), "[shutdown]\nidle-timeout = \"soon\"\n")
        .expect("root may");
    log.line("is refused, the last good one stays in force");
    drop(log);
    let said = builder.cli(["status"]).run().ok();
    assert!(said.stdout.contains("refused: ") && said.stdout.contains("idle-timeout"), "{said}");
    assert_eq!(digests(&builder.status()), digests(&good));

    builder.configure(&[("shutdown.idle-timeout", "\"50m\"")]);
    builder.cli(["config", "apply"]).run().ok();
    let said = builder.cli(["status"]).run().ok();
    assert!(!said.stdout.contains("refused"), "{said}");
}

fn logs_outlive_the_pod() {
    let builder = Builder::set_up(&[]);
    let none = builder.cli(["logs", "user", "--previous"]).run();
    assert!(none.code != 0 && none.stderr.contains("no log of user-init is kept"), "{none}");
    builder.cli(["down"]).run().ok();
    setting().engine.vanish(builder.name());
    let previous = |of: &str| builder.cli(["logs", of, "--previous"]).run();
    if !setting().engine.meets(e2e::engine::Need::Cluster) {
        let daemon = previous("daemon").ok();
        assert!(daemon.stdout.contains(" ready") && daemon.stdout.contains("leaving: "), "{daemon}");
    } else {
        let asleep = previous("daemon");
        assert!(asleep.code != 0 && asleep.stderr.contains("sleeps"), "{asleep}");
    }
    builder.cli(["up"]).run().ok();
    for of in Container::ALL {
        let log = previous(of.name()).ok();
        assert!(log.stdout.contains("leaving: "), "{} to its end: {log}", of.agent());
        assert!(log.stdout.starts_with("20"), "with the time: {log}");
    }
    let tail = builder.cli(["logs", "daemon", "--previous", "--tail", "1"]).run().ok();
    assert!(tail.stdout.lines().count() == 1 && tail.stdout.contains("leaving: "), "{tail}");
}

fn a_killed_builder_is_said_to_be_killed_and_its_logs_are_there() {
    let builder = Builder::set_up(&[]);
    builder.cli(["down"]).run().ok();
    let status = builder.status();
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("asked")), "{status}");
    builder.cli(["up"]).run().ok();
    for of in Container::ALL {
        setting().engine.kill(builder.name(), of.name());
    }
    builder.wait_stopped(60);
    let status = builder.status();
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("killed")), "{status}");
    let log = builder.cli(["logs", "daemon", "--previous"]).run().ok();
    assert!(log.stdout.contains(" ready"), "{log}");
}

fn metrics_tell_what_the_builder_has_done() {
    let port = 20_000 + std::process::id() % 10_000;
    let builder = Builder::set_up(&[("metrics.listen", &format!("\"0.0.0.0:{port}\""))]);
    // Most of them are over before anybody can have looked.
    let quick: String =
        (0..9).map(|n| format!("q{n} = {};\n", quick(&format!("t-measured-{n}"), "q"))).collect();
    let all = format!("{{\n{quick}slow = {};\n}}", slow("t-measured", 2));
    let tree = builder.pushed("measured", &[("default.nix", &*all)]);
    tree.cli(["build"]).run().ok();
    // All containers share one network.
    let line = format!(
        "exec 3<>/dev/tcp/127.0.0.1/{port}; printf 'GET /metrics HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n' >&3; cat <&3"
    );
    let page = builder.cli(["shell", "--", "bash", "-c", &line]).run().ok();
    assert!(page.stdout.starts_with("HTTP/1.1 200 OK"), "{page}");
    for metric in [
        "trampoline_ready 1",
        "trampoline_wakes_total 1",
        "trampoline_builds_running 0",
        "trampoline_agent_running{agent=\"daemon-init\"} 1",
        "trampoline_stops_total{reason=\"idle\"} 0",
    ] {
        assert!(page.stdout.lines().any(|line| line == metric), "no {metric} in {page}");
    }
    let value = |name: &str| -> u64 {
        let line = page.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {page}")).trim().parse().expect("a number")
    };
    assert_eq!(value("trampoline_builds_total"), 9 + 1, "{page}");
    assert!(value("trampoline_store_bytes") > 0 && value("trampoline_ready_seconds") < 600, "{page}");
    if setting().engine.options().is_empty() {
        let read = |path: &str| {
            let mut stream =
                TcpStream::connect(format!("127.0.0.1:{port}")).expect("published on this machine");
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("it listens");
            let mut text = String::new();
            stream.read_to_string(&mut text).expect("an answer");
            text
        };
        let all = read("/metrics");
        assert!(all.contains("\ntrampoline_ready 1\n"), "{all}");
        let own = read("/metrics/user-init");
        assert!(own.contains("\ntrampoline_jobs_running 0\n") && !own.contains("trampoline_ready "), "{own}");
    }
}
