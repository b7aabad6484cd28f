//! What is wrong is refused before anything is made.

use contract::exit::Exit;
use e2e::builder::Builder;
use e2e::person::Person;
use e2e::setting::setting;

crate::scenarios! {
    Any: [],
    // A cluster's limits are no reservation, and may be beyond any of its nodes.
    Podman: [
        explicit_limit_beyond_the_machine_is_refused_before_anything_exists,
    ],
    Root: [
        wrong_configuration_is_refused_with_file_line_and_nearest_key,
        missing_image_is_named,
    ],
}

fn nothing_exists(builder: &Builder) {
    assert_eq!(setting().engine.left(builder.name()), [""; 0]);
}

fn explicit_limit_beyond_the_machine_is_refused_before_anything_exists() {
    for (key, value) in [("builder.daemon.memory", "\"64Ti\""), ("builder.user.cpus", "4096")] {
        let builder = Builder::new(Person::new(), &[(key, value)]);
        builder.cli(["setup"]).run().refused(Exit::Config, key);
        nothing_exists(&builder);
    }
}

fn wrong_configuration_is_refused_with_file_line_and_nearest_key() {
    let builder = Builder::new(Person::new(), &[("shutdown.idle-timeuot", "\"5s\"")]);
    for args in [&["setup"][..], &["config", "check"], &["status"]] {
        let refused = builder.cli(args.iter().copied()).run();
        assert!(refused.stderr.contains("trampoline.toml:1"), "{refused}");
        refused.refused(Exit::Config, "idle-timeout");
    }
    nothing_exists(&builder);
}

fn missing_image_is_named() {
    let image = "localhost/t-there-is-no-such-image:0";
    let builder = Builder::new(Person::new(), &[("builder.image", &format!("{image:?}"))]);
    let refused = builder.cli(["up"]).run();
    assert!(refused.code != 0 && refused.stderr.contains("setup"), "{refused}");
    nothing_exists(&builder);
}
