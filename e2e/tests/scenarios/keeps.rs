//! What keeps an idle builder besides what goes on in it: hours of the week, and somebody's hold.

use std::time::SystemTime;

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::setting::setting;
use serde_json::Value;

crate::scenarios! {
    Any: [
        hours_of_the_week_keep_an_idle_builder_until_they_are_taken_away,
    ],
    Root: [
        hold_outlives_the_pod_and_so_does_why_it_stopped,
    ],
}

/// Seconds since something was last going on; 0 while nobody says.
fn idle_for(status: &Value) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
    status["pod"]["idle"]["last_activity"].as_u64().map_or(0, |at| now.saturating_sub(at))
}

fn hours_of_the_week_keep_an_idle_builder_until_they_are_taken_away() {
    let builder = Builder::set_up(&[
        ("shutdown.idle-timeout", "\"4s\""),
        ("shutdown.keep-up", "\"Mon-Sun 00:00-24:00\""),
        ("shutdown.time-zone", "\"Europe/Berlin\""),
    ]);
    let status = builder.status_where(|status| idle_for(status) >= 12);
    assert!(status["state"] == "running" && idle_for(&status) >= 12, "{status}");
    let keeps = &status["pod"]["idle"]["keeps"];
    assert_eq!(keeps[0]["what"], "keep-up", "{status}");
    assert_eq!(keeps[0]["note"], "Mon-Sun 00:00-24:00 Europe/Berlin", "{status}");
    builder.says("by keep-up, which ends in");
    // Whoever changes the idle time is there: the stop does not come while the change is still being heard.
    builder.configure(&[("shutdown.idle-timeout", "\"6s\"")]);
    builder.cli(["config", "apply"]).run().ok();
    builder.wait_stopped(60);
    let status = builder.status();
    assert!(status["reason"].as_str().is_some_and(|reason| reason.contains("idle for 6s")), "{status}");
}

fn hold_outlives_the_pod_and_so_does_why_it_stopped() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"6s\"")]);
    let engine = setting().engine;
    builder.cli(["hold", "1h", "--reason", "a demo at ten"]).run().ok();
    builder.cli(["down"]).run().ok();
    // Nobody is there to end it, and it is not said to have ended.
    builder.cli(["release"]).run().refused(Exit::Stopping, "a hold counts again once the builder runs");
    engine.vanish(builder.name());
    builder.cli(["up"]).run().ok();
    let held = builder.cli(["hold"]).run().ok();
    assert!(held.stdout.contains("a demo at ten"), "{held}");
    builder.cli(["release"]).run().ok();
    let released = builder.cli(["hold"]).run().ok();
    assert_eq!(released.stdout, "", "{released}");
    builder.wait_stopped(60);
    engine.vanish(builder.name());
    let status = builder.cli(["status"]).run().ok();
    assert!(status.stdout.contains("stopped") && status.stdout.contains("idle for 6s"), "{status}");
    // Nor is the hold there again.
    builder.cli(["up"]).run().ok();
    let held = builder.cli(["hold"]).run().ok();
    assert_eq!(held.stdout, "", "{held}");
}
