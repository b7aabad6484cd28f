//! From TOML to checked values, one option at a time. Nothing stops at the first error.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::keyed::Keyed;
use super::nearest::nearest;
use super::nix_settings;
use super::option::{Kind, Opt};
use super::scalar::{nix_setting, scalar, string, what};
use super::secret;
use super::table::{TABLES, options};
use super::value::{Value, key_text};

/// A value that stands in the file.
pub(super) struct Found {
    pub(super) option: &'static Opt,
    pub(super) value: Value,
}

/// What a file holds.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) found: Vec<Found>,
    /// Line by path, for every key that was read, `daemon.nix.KEY` included.
    pub(super) lines: BTreeMap<String, usize>,
    pub(super) errors: Vec<ConfigError>,
}

/// Reads all that can be read. Broken syntax is reported alone: what the parser makes of the rest would only
/// mislead.
pub(super) fn read(text: &str) -> Reading {
    let mut reader = Reader { text, out: Reading::default() };
    let (document, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let mut problem = error.message().replace('\n', "; ");
        if let Some(key) = text.get(span.clone()).filter(|_| problem == "duplicate key") {
            problem.push_str(&format!(" `{key}`"));
        }
        reader.refuse(span, "", problem, "TOML, each key at most once", None);
    }
    if errors.is_empty() {
        reader.table("", document.get_ref());
    }
    reader.out
}

struct Reader<'a> {
    text: &'a str,
    out: Reading,
}

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    fn refuse(
        &mut self,
        span: Range<usize>,
        key: impl Into<String>,
        problem: impl Into<String>,
        accepted: impl Into<String>,
        nearest: Option<String>,
    ) {
        self.out.errors.push(ConfigError {
            line: self.line(&span),
            key: key.into(),
            problem: problem.into(),
            accepted: accepted.into(),
            nearest,
        });
    }

    /// `name` is empty for the document itself.
    fn table(&mut self, name: &str, table: &DeTable<'_>) {
        for (key, value) in table.iter() {
            let path = join(name, key.get_ref());
            if let Some(option) = options().find(|o| o.table == name && o.key == key.get_ref()) {
                // A header of a table of settings alone gives nothing.
                if !value.get_ref().as_table().is_some_and(|table| table.is_empty()) {
                    self.out.lines.insert(path, self.line(&key.span()));
                }
                self.option(option, value);
            } else if TABLES.iter().any(|table| table.name == path) {
                match value.get_ref() {
                    DeValue::Table(inner) => self.table(&path, inner),
                    other => {
                        let problem = format!("{} where a table belongs", what(other));
                        self.refuse(
                            key.span(),
                            &path,
                            problem,
                            format!("a table, with the header [{path}]"),
                            None,
                        );
                    }
                }
            } else {
                self.unknown(name, key, value.get_ref());
            }
        }
    }

    fn unknown(&mut self, table: &str, key: &Spanned<std::borrow::Cow<'_, str>>, value: &DeValue<'_>) {
        let word = key.get_ref().as_ref();
        let keys: Vec<&str> = options().filter(|o| o.table == table).map(|o| o.key).collect();
        let tables: Vec<&str> = TABLES.iter().filter_map(|t| child(t.name, table)).collect();
        let is_table = matches!(value, DeValue::Table(_)) || table.is_empty();
        let (first, second) = if is_table { (&tables, &keys) } else { (&keys, &tables) };
        let elsewhere = || {
            let same = options().find(|o| o.key == word).or_else(|| {
                let key = nearest(word, options().map(|o| o.key))?;
                options().find(|o| o.key == key)
            });
            same.map(|option| format!("`{}` in [{}]", option.key, option.table))
        };
        let near = nearest(word, first.iter().copied())
            .or_else(|| nearest(word, second.iter().copied()))
            .map(|near| format!("`{near}`"))
            .or_else(elsewhere);
        let problem = match value {
            DeValue::Table(_) => "no such table",
            _ => "no such key",
        };
        let headers: Vec<String> = tables.iter().map(|name| format!("[{}]", join(table, name))).collect();
        let accepted = match (keys.is_empty(), headers.is_empty()) {
            (true, _) => format!("the tables {}", headers.join(", ")),
            (false, true) => format!("in [{table}]: {}", keys.join(", ")),
            (false, false) => format!("in [{table}]: {}, and {}", keys.join(", "), headers.join(", ")),
        };
        self.refuse(key.span(), join(table, word), problem, accepted, near);
    }

    fn option(&mut self, option: &'static Opt, value: &Spanned<DeValue<'_>>) {
        if let Kind::NixSettings = option.kind {
            if let DeValue::Table(settings) = value.get_ref() {
                let value = Value::Map(self.nix_settings(&option.path(), settings));
                self.out.found.push(Found { option, value });
                return;
            }
        }
        if let (Kind::Keyed(keyed), DeValue::Table(entries)) = (option.kind, value.get_ref()) {
            let value = Value::Map(self.keyed(&option.path(), keyed, entries));
            self.out.found.push(Found { option, value });
            return;
        }
        if let Kind::ApiTable(_) | Kind::ApiTables(_) = option.kind {
            self.api(option, value);
            return;
        }
        if let Kind::List(form) = option.kind {
            if let DeValue::Array(items) = value.get_ref() {
                let mut texts = Vec::new();
                for item in items.iter() {
                    let problem = match item.get_ref() {
                        DeValue::String(text) => match form.check(text) {
                            Ok(()) => {
                                texts.push(text.to_string());
                                continue;
                            }
                            Err(why) => format!("{} is refused: {why}", string(&form.presentable(text))),
                        },
                        other => format!("{} in a list of strings", what(other)),
                    };
                    self.refuse(item.span(), option.path(), problem, option.kind.accepted(), None);
                }
                self.out.found.push(Found { option, value: Value::List(texts) });
                return;
            }
        }
        match scalar(&option.kind, value.get_ref()) {
            Ok(value) => self.out.found.push(Found { option, value }),
            Err(why) => {
                let near = match (&option.kind, value.get_ref()) {
                    (Kind::Word(words), DeValue::String(text)) => {
                        nearest(text, words.iter().copied()).map(|word| format!("\"{word}\""))
                    }
                    _ => None,
                };
                self.refuse(value.span(), option.path(), why, option.kind.accepted(), near);
            }
        }
    }

    fn keyed(&mut self, path: &str, keyed: Keyed, entries: &DeTable<'_>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (key, value) in entries.iter() {
            let path = join(path, key.get_ref());
            if let Err(why) = keyed.check_key(key.get_ref()) {
                let problem = format!("{} is refused: {why}", string(key.get_ref()));
                self.refuse(key.span(), path, problem, keyed.form(), None);
                continue;
            }
            let problem = match value.get_ref() {
                DeValue::String(text) => match keyed.check_value(text) {
                    Ok(()) => {
                        self.out.lines.insert(path, self.line(&key.span()));
                        out.insert(key.get_ref().to_string(), text.to_string());
                        continue;
                    }
                    Err(why) => format!("{} is refused: {why}", string(text)),
                },
                other => format!("{} in a table of strings", what(other)),
            };
            self.refuse(value.span(), path, problem, keyed.form(), None);
        }
        out
    }

    /// Of the shape alone; whoever knows the API checks the rest, and finds the lines by path.
    fn api(&mut self, option: &'static Opt, value: &Spanned<DeValue<'_>>) {
        let path = option.path();
        let of_tables = |items: &[Spanned<DeValue<'_>>]| {
            items
                .iter()
                .find(|item| !matches!(item.get_ref(), DeValue::Table(_)))
                .map(|item| (item.span(), format!("{} in a list of tables", what(item.get_ref()))))
        };
        let wrong = match (&option.kind, value.get_ref()) {
            (Kind::ApiTable(_), DeValue::Table(_)) => None,
            (Kind::ApiTables(_), DeValue::Array(items)) => of_tables(items),
            (_, other) => Some((value.span(), format!("{} is of the wrong type", what(other)))),
        };
        if let Some((span, problem)) = wrong {
            self.refuse(span, path, problem, option.kind.accepted(), None);
            return;
        }
        let errors = self.out.errors.len();
        let json = self.json(&path, value);
        if self.out.errors.len() == errors {
            self.out.found.push(Found { option, value: Value::Json(json) });
        }
    }

    fn json(&mut self, path: &str, value: &Spanned<DeValue<'_>>) -> serde_json::Value {
        use serde_json::Value as Json;
        match value.get_ref() {
            DeValue::String(text) => {
                if let Err(why) = secret::refuse(text, "a Secret can hold it") {
                    let problem = format!("{} is refused: {why}", string(text));
                    self.refuse(
                        value.span(),
                        path,
                        problem,
                        "a reference to a Secret, or a file of one",
                        None,
                    );
                }
                Json::from(text.as_ref())
            }
            DeValue::Boolean(value) => Json::from(*value),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Json::from(number),
                Err(_) => {
                    let problem = format!("{} is out of range", what(value.get_ref()));
                    self.refuse(value.span(), path, problem, "a whole number of 64 bits", None);
                    Json::Null
                }
            },
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                Json::Array(
                    items
                        .map(|(index, item)| {
                            let path = join(path, &index.to_string());
                            self.out.lines.insert(path.clone(), self.line(&item.span()));
                            self.json(&path, item)
                        })
                        .collect(),
                )
            }
            DeValue::Table(table) => {
                let mut map = serde_json::Map::new();
                for (key, value) in table.iter() {
                    let path = join(path, key.get_ref());
                    self.out.lines.insert(path.clone(), self.line(&key.span()));
                    map.insert(key.get_ref().to_string(), self.json(&path, value));
                }
                Json::Object(map)
            }
            other @ (DeValue::Float(_) | DeValue::Datetime(_)) => {
                let problem = format!("{} is nothing that the Kubernetes API knows", what(other));
                self.refuse(
                    value.span(),
                    path,
                    problem,
                    "strings, whole numbers, booleans, lists and tables",
                    None,
                );
                Json::Null
            }
        }
    }

    fn nix_settings(&mut self, path: &str, settings: &DeTable<'_>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (key, value) in settings.iter() {
            let path = join(path, key.get_ref());
            if let Err(refusal) = nix_settings::check_key(key.get_ref()) {
                self.refuse(key.span(), path, refusal.problem, refusal.accepted, None);
                continue;
            }
            match nix_setting(value.get_ref()) {
                Ok(text) => {
                    self.out.lines.insert(path, self.line(&key.span()));
                    out.insert(key.get_ref().to_string(), text);
                }
                Err(problem) => {
                    self.refuse(value.span(), path, problem, nix_settings::VALUE_FORM, None);
                }
            }
        }
        out
    }
}

fn join(table: &str, key: &str) -> String {
    let key = key_text(key);
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// `daemon` for `builder.daemon` below `builder`; `builder` below the document.
fn child<'a>(name: &'a str, parent: &str) -> Option<&'a str> {
    let rest = if parent.is_empty() { name } else { name.strip_prefix(parent)?.strip_prefix('.')? };
    (!rest.contains('.')).then_some(rest)
}
