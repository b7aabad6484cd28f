//! trampoline.toml: one table of options, from which the file with its comments, the JSON schema, the docs,
//! the checks and the typed configuration are made.
//!
//! [`Config::parse`] takes the text of a file and either gives a configuration in which every value has been
//! checked, or [all that is wrong](ConfigErrors) with it. Reading the file is up to the caller.

mod calendar;
mod changes;
mod check;
mod docs;
mod egress;
mod error;
mod keyed;
mod listen;
mod nearest;
mod network;
mod nix_conf;
mod nix_settings;
mod option;
mod read;
mod rules;
mod scalar;
mod schema;
mod secret;
mod share;
mod table;
mod types;
mod units;
mod value;
mod when;
mod window;

use std::collections::BTreeMap;

pub use calendar::Calendar;
pub use changes::{Change, live_changes, pending_note};
pub use check::{NAME_MAX, Text};
pub use docs::{default_file, markdown};
pub use egress::Reach;
pub use error::{ConfigError, ConfigErrors};
pub use keyed::Keyed;
pub use listen::listen;
pub use network::Network;
pub use nix_conf::{Capacity, environment, nix_conf, trusted_keys};
pub use option::{Effect, Kind, Opt, Reader};
pub use schema::json_schema;
pub use share::Share;
pub use table::{TABLES, Table, option, options};
pub use types::{
    AccessMode, Builder, Daemon, DnsPolicy, Durability, Engine, IsolationChoice, Kubernetes, Limits, Log,
    LogFormat, LogLevel, Maintenance, Metrics, PullPolicy, Shutdown, User,
};
pub use units::{DURATION_FORM, NEVER, SIZE_FORM, Size, format_duration, parse_duration};
pub use value::Value;
pub use window::Window;

/// Nix's name of the feature that is `/dev/kvm`.
const KVM: &str = "kvm";

/// The whole configuration, checked.
#[derive(Debug, Clone, PartialEq, Default)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Config {
    /// The pod.
    pub builder: Builder,
    /// What a cluster decides about it.
    pub kubernetes: Kubernetes,
    /// The store and nix-daemon.
    pub daemon: Daemon,
    /// Who may come in.
    pub user: User,
    /// When the builder stops.
    pub shutdown: Shutdown,
    /// Keeping the store small.
    pub maintenance: Maintenance,
    /// What the agents write.
    pub log: Log,
    /// What monitoring reads.
    pub metrics: Metrics,
    /// Where each explicit value stands, by path.
    #[cfg_attr(test, serde(skip))]
    origins: BTreeMap<String, Origin>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Nobody gave it.
    Default,
    /// A file.
    File {
        /// As it was given to [`Config::parse`].
        file: String,
        /// Counted from 1.
        line: usize,
    },
    /// A flag or the like.
    Given {
        /// As it was given to [`Config::give`].
        by: String,
    },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { file, line } => write!(f, "{file}:{line}"),
            Self::Given { by } => f.write_str(by),
        }
    }
}

/// One value, for `config show`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Entry {
    /// Its path, e.g. `builder.name` or `daemon.nix.keep-outputs`.
    pub key: String,
    /// As TOML; `None`: not set.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Config {
    /// Checks the text of a whole file; `file` is what messages call it.
    ///
    /// # Errors
    /// All that is wrong, not only the first.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        let reading = read::read(text);
        let mut errors = reading.errors;
        let mut config = Self::default();
        for (key, line) in reading.lines {
            config.origins.insert(key, Origin::File { file: file.to_owned(), line });
        }
        for found in reading.found {
            (found.option.field.set)(&mut config, found.value);
        }
        // A value that was refused is still its default here, and would be blamed for a contradiction.
        let refused: Vec<String> = errors.iter().map(|error| error.key.clone()).collect();
        errors.extend(rules::check(&config).into_iter().filter(|error| !refused.contains(&error.key)));
        errors.sort_by_key(|error| error.line);
        if errors.is_empty() { Ok(config) } else { Err(ConfigErrors { file: file.to_owned(), errors }) }
    }

    /// Takes one value from elsewhere, such as a flag, instead of from the file: `by` (`--name`) is what messages
    /// call it. The text is what would stand in the file, for strings without the quotes.
    ///
    /// # Errors
    /// There is no such option, or it does not accept this, or it contradicts the rest; nothing is changed then.
    pub fn give(&mut self, path: &str, text: &str, by: &str) -> Result<(), ConfigErrors> {
        let bare = match option(path).map(|option| option.kind) {
            Some(
                Kind::Bool
                | Kind::Int(..)
                | Kind::List(_)
                | Kind::NixSettings
                | Kind::Keyed(_)
                | Kind::ApiTable(_)
                | Kind::ApiTables(_),
            ) => true,
            Some(Kind::Cpus) => text.parse::<f64>().is_ok(),
            _ => false,
        };
        let toml = if bare { text.to_owned() } else { value::quoted(text) };
        let reading = read::read(&format!("{path} = {toml}"));
        let mut errors = reading.errors;
        let mut config = self.clone();
        for (key, _) in reading.lines {
            config.origins.insert(key, Origin::Given { by: by.to_owned() });
        }
        for found in reading.found {
            let value = match (found.value, found.option.value(self)) {
                (Value::Map(new), Value::Map(mut all)) => {
                    all.extend(new);
                    Value::Map(all)
                }
                (value, _) => value,
            };
            (found.option.field.set)(&mut config, value);
        }
        if errors.is_empty() {
            errors = rules::check(&config);
        }
        if errors.is_empty() {
            *self = config;
            return Ok(());
        }
        for error in &mut errors {
            error.line = 0;
        }
        Err(ConfigErrors { file: by.to_owned(), errors })
    }

    /// Whether the value of this path (e.g. `builder.daemon.memory`) was given, even if it equals the default.
    #[must_use]
    pub fn is_explicit(&self, path: &str) -> bool {
        self.origins.contains_key(path)
    }

    /// Where the value of this path comes from.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        self.origins.get(path).cloned().unwrap_or(Origin::Default)
    }

    /// Path and place of a part of the table that `option` holds, by keys and indices: that of the nearest part
    /// that was given, where the part itself is missing.
    #[must_use]
    pub fn origin_below(&self, option: &str, steps: &[String]) -> (String, Origin) {
        let mut path = option.to_owned();
        let mut origin = self.origin(option);
        for step in steps {
            path = format!("{path}.{}", value::key_text(step));
            if let Some(nearer) = self.origins.get(&path) {
                origin = nearer.clone();
            }
        }
        (path, origin)
    }

    /// `[maintenance] schedule`, if there is one.
    #[must_use]
    pub fn collections(&self) -> Option<Calendar> {
        Calendar::new(self.maintenance.schedule.as_deref()?, &self.shutdown.time_zone)
    }

    /// Whether builds may ask for `/dev/kvm`, by whichever option.
    #[must_use]
    pub fn offers_kvm(&self) -> bool {
        let settings = ["system-features", "extra-system-features"];
        let by_nix = settings.iter().filter_map(|key| self.daemon.nix.get(*key));
        self.builder
            .system_features
            .iter()
            .map(String::as_str)
            .chain(by_nix.flat_map(|list| list.split_whitespace()))
            .any(|feature| feature == KVM)
    }

    fn line(&self, path: &str) -> Option<usize> {
        match self.origins.get(path) {
            Some(Origin::File { line, .. }) => Some(*line),
            _ => None,
        }
    }

    /// Every value with where it comes from, in the order of the default file.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for option in options() {
            let path = option.path();
            match option.value(self) {
                Value::Map(settings) => entries.extend(settings.into_iter().map(|(key, value)| {
                    let key = format!("{path}.{}", value::key_text(&key));
                    Entry { origin: self.origin(&key), key, value: Value::Text(value).to_toml() }
                })),
                _ => entries.push(Entry { origin: self.origin(&path), value: option.shown(self), key: path }),
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests;
