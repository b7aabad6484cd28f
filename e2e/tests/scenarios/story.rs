//! What a user does in the first quarter of an hour.

use e2e::builder::Builder;
use e2e::engine::Need;
use e2e::person::Person;
use e2e::setting::setting;

use crate::Scenario;

pub(crate) const SCENARIOS: &[Scenario] = &[Scenario {
    name: "story::from_nothing_to_a_greeting_and_back_to_nothing",
    run: story,
    need: Need::Any,
}];

const HELLO: &str = include_str!("../../../hello.nix");

fn story() {
    let builder = Builder::new(Person::new(), &[]);
    assert_eq!(builder.state(), "absent");

    let setup = builder.cli(["setup"]).run().ok();
    assert_eq!(setup.stdout, "", "all that setup says is for people: {setup}");
    assert!(setup.stderr.contains("ready"), "setup says what happens: {setup}");

    let tree = builder.pushed("greeting", &[("hello.nix", HELLO)]);
    let built = tree.cli(["build", "-f", "hello.nix"]).run().ok();
    assert!(built.stdout.starts_with("/nix/store/") && built.stdout.lines().count() == 1, "{built}");
    let path = built.text();

    let greeting = tree.cli(["shell", "--", "./result/bin/hello-trampoline"]).run().ok();
    assert!(greeting.text().starts_with("Hello from"), "{greeting}");
    assert_eq!(tree.cli(["shell", "--", "readlink", "result"]).run().ok().text(), path);

    assert_eq!(builder.state(), "running");
    let listed = builder.cli(["list", "--json"]).run().ok().json();
    let ours = listed.as_array().and_then(|all| all.iter().find(|one| one["name"] == builder.name()));
    assert_eq!(ours.map(|one| &one["state"]), Some(&"running".into()), "{listed}");
    assert!(
        builder.cli(["logs"]).run().ok().stdout.len() + builder.cli(["logs"]).run().ok().stderr.len() > 0
    );
    let shown = builder.cli(["config", "show"]).run().ok();
    assert!(shown.stdout.contains("trampoline.toml"), "where values come from: {shown}");

    builder.cli(["down"]).run().ok();
    let status = builder.status();
    assert_eq!(status["state"], "stopped");
    assert!(status["reason"].as_str().is_some_and(|reason| !reason.is_empty()), "why it stopped: {status}");
    // None of these wakes it.
    builder.cli(["list"]).run().ok();
    let logs = builder.cli(["logs", "user"]).run();
    assert_eq!(logs.code == 0, setting().engine.keeps_logs(), "{logs}");
    builder.cli(["config", "check"]).run().ok();
    assert_eq!(builder.state(), "stopped");

    builder.cli(["up"]).run().ok();
    assert_eq!(builder.state(), "running");
    let again = tree.cli(["shell", "--", "./result/bin/hello-trampoline"]).run().ok();
    assert_eq!(again.stdout, greeting.stdout);

    builder.clean().ok();
    assert_eq!(setting().engine.left(builder.name()), [""; 0]);
    assert_eq!(builder.state(), "absent");
}
