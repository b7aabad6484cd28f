//! The default file and the table for the docs.

use super::option::{Kind, Opt};
use super::table::{TABLES, Table};
use super::{Config, nix_settings};

/// Where comments are folded.
const WIDTH: usize = 100;

const HEAD: &str = "\
# All options of nix-trampoline with their defaults. A line that begins with `#` and a blank is a comment; one
# that begins with `#` alone is an option: take the `#` away to give it a value of your own. The client looks
# for this file in the current folder and above it, ships it to the builder, and `trampoline-cli config show`
# tells which values are in force and where each comes from.
#
# Durations: \"30m\", \"1h30m\", \"2d\". Sizes: \"10Gi\", \"500M\". CPUs: 8, 0.5 or \"500m\".
";

/// The text of a trampoline.toml in which every option stands with its comment and its default, and none is given:
/// reading it yields [`Config::default`]. An explicit value is more than a default: what the machine cannot meet is
/// then refused instead of lowered.
#[must_use]
pub fn default_file() -> String {
    let config = Config::default();
    let mut out = HEAD.to_owned();
    for table in TABLES {
        let about = format!("{} A change counts {}{}.", table.doc, table.effect().when(), unless(table));
        out.push_str(&format!("\n{}[{}]\n", folded(&about), table.name));
        // A table in the table must come last: what follows its header belongs to it.
        let (inner, keys): (Vec<&Opt>, Vec<&Opt>) =
            table.options().partition(|option| matches!(option.kind, Kind::NixSettings));
        for option in keys {
            out.push_str(&format!("\n{}", folded(&notes(table, option))));
            match option.shown(&config).filter(|_| !option.kind.is_table()) {
                Some(value) => out.push_str(&format!("#{} = {value}\n", option.key)),
                None => {
                    out.push_str(&format!(
                        "# Not set by default; for example:\n#{} = {}\n",
                        option.key, option.example
                    ));
                }
            }
        }
        for option in inner {
            out.push_str(&format!("\n{}[{}]\n", folded(&notes(table, option)), option.path()));
            out.push_str(&format!("# Not set by default; for example:\n#{}\n", option.example));
        }
    }
    out
}

/// What tells the reader of a table's comment that some of its options differ.
fn unless(table: &Table) -> &'static str {
    if table.options().any(|option| option.effect != table.effect()) { ", unless noted" } else { "" }
}

fn notes(table: &Table, option: &Opt) -> String {
    if option.effect == table.effect() {
        option.doc.to_owned()
    } else {
        format!("{} A change counts {}.", option.doc, option.effect.when())
    }
}

/// One markdown table of options for each table of the file.
#[must_use]
pub fn markdown() -> String {
    let config = Config::default();
    let mut out = String::new();
    for table in TABLES {
        out.push_str(&format!("### `[{}]`\n\n{}\n\n", table.name, table.doc));
        out.push_str("| key | default | accepted | a change counts | meaning | change it when |\n");
        out.push_str("|---|---|---|---|---|---|\n");
        for option in table.options() {
            let default = match option.shown(&config) {
                Some(value) if value != "{}" => format!("`{value}`"),
                _ => "not set".to_owned(),
            };
            let cells = [
                format!("`{}`", option.key),
                default,
                accepted(option),
                option.effect.when().to_owned(),
                option.doc.to_owned(),
                super::when::when(&option.path()).unwrap_or_default().to_owned(),
            ];
            out.push_str(&format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | ")));
        }
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn accepted(option: &Opt) -> String {
    match option.kind {
        Kind::NixSettings => format!("keys of nix.conf, each {}", nix_settings::VALUE_FORM),
        kind => kind.accepted(),
    }
}

/// As comment lines.
fn folded(text: &str) -> String {
    let mut out = String::new();
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            out.push_str(&line);
            out.push('\n');
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    out + &line + "\n"
}
