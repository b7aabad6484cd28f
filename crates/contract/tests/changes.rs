//! What an agent says when its file changes.

use contract::config::{Config, Effect, Reader, live_changes, pending_note};

fn config(text: &str) -> Config {
    Config::parse(text, "test.toml").unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn each_change_is_named_with_what_it_needs() {
    let old = config("[shutdown]\nidle-timeout = \"30m\"\n");
    let new = config(
        "[builder]\nstore-size = \"20Gi\"\n[daemon]\nmax-jobs = 2\nnix = { keep-outputs = true }\n[shutdown]\nidle-timeout = \"never\"\n",
    );
    let changes = live_changes(&old, &new);
    let found: Vec<(String, Effect)> =
        changes.iter().map(|change| (change.option.path(), change.effect())).collect();
    assert_eq!(
        found,
        [
            ("builder.store-size".to_owned(), Effect::Setup),
            ("daemon.max-jobs".to_owned(), Effect::Restart),
            ("daemon.nix".to_owned(), Effect::Restart),
            ("shutdown.idle-timeout".to_owned(), Effect::Live),
        ]
    );
    assert_eq!(
        pending_note(&changes).as_deref(),
        Some(
            "daemon.max-jobs, daemon.nix count after a restart of the builder; \
             builder.store-size counts after `trampoline-cli setup`"
        )
    );
    assert!(changes[3].concerns(Reader::ShutdownMonitor) && !changes[3].concerns(Reader::Daemon));
}

#[test]
fn a_log_shows_no_secrets() {
    let config = config(
        "[daemon.nix]\nimpure-env = \"A=secret\"\n[kubernetes]\nenv = { A = \"secret\" }\naffinity = { a = \"secret\" }\n",
    );
    let logged: Vec<String> =
        contract::config::options().filter_map(|option| option.logged(&config)).collect();
    assert!(!logged.iter().any(|text| text.contains("secret")), "{logged:?}");
    for hidden in ["{ impure-env = \"…\" }", "{ A = \"…\" }", "\"…\""] {
        assert!(logged.contains(&hidden.to_owned()), "{logged:?}");
    }
}

#[test]
fn giving_a_default_or_moving_a_line_is_no_change() {
    let old = config("");
    let new = config("# moved\n[shutdown]\nidle-timeout = \"1800s\"\n[builder.daemon]\ncpus = 8.0\n");
    assert!(live_changes(&old, &new).is_empty());
    assert_eq!(pending_note(&live_changes(&old, &new)), None);
    let live = config("[user]\nkeep-jobs = 3\n");
    assert_eq!(pending_note(&live_changes(&old, &live)), None);
}
