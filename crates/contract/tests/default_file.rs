//! The committed trampoline.toml is the one that the table of options yields, and gives nothing but defaults.

use contract::config::{self, Config, Kind, Origin};

const COMMITTED: &str = include_str!("../../../trampoline.toml");

#[test]
fn the_committed_file_is_up_to_date() {
    assert!(
        COMMITTED == config::default_file(),
        "trampoline.toml is not what the options yield; write this into it:\n{}",
        config::default_file()
    );
}

#[test]
fn it_gives_nothing() {
    let config = Config::parse(&config::default_file(), "trampoline.toml").unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config, Config::parse("", "empty").unwrap());
    assert!(config.entries().iter().all(|entry| entry.origin == Origin::Default));
    assert!(!config::options().any(|option| config.is_explicit(&option.path())));
}

/// The file as somebody leaves it who takes away every `#` in front of an option.
fn with_all_options_given() -> String {
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_owned(),
        _ => line.to_owned(),
    };
    config::default_file().lines().map(uncomment).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_option_stands_in_it_with_its_default() {
    let text = with_all_options_given();
    let config = Config::parse(&text, "given.toml").unwrap_or_else(|errors| panic!("{errors}"));
    let defaults = Config::default();
    for option in config::options() {
        let path = option.path();
        if let Kind::NixSettings = option.kind {
            assert!(!config.daemon.nix.is_empty());
            continue;
        }
        assert!(!option.kind.is_table() || option.value(&config) != option.value(&defaults), "{path}");
        let Origin::File { file, line } = config.origin(&path) else { panic!("{path} is not in the file") };
        assert_eq!(file, "given.toml");
        assert!(text.lines().nth(line - 1).unwrap().starts_with(option.key), "{path} is not in line {line}");
        if option.shown(&defaults).is_some() && !option.kind.is_table() {
            assert_eq!(option.value(&config), option.value(&defaults), "{path}");
        } else {
            assert!(option.shown(&config).is_some(), "the example of {path} gives no value");
        }
    }
}

#[test]
fn what_entries_show_can_be_read_back() {
    let config = Config::parse(&with_all_options_given(), "given.toml").unwrap();
    let mut text = String::new();
    for entry in config.entries() {
        text.push_str(&format!("{} = {}\n", entry.key, entry.value.unwrap()));
    }
    let again = Config::parse(&text, "again.toml").unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    for option in config::options() {
        assert_eq!(option.value(&config), option.value(&again), "{option:?}");
    }
}

#[test]
fn no_line_is_too_long_to_read() {
    for line in COMMITTED.lines() {
        assert!(line.chars().count() <= 110, "{line}");
    }
}
