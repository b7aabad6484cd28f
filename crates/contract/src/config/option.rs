//! What is known of one option. The file, the schema, the docs, the checks and the typed configuration are
//! all made from [`super::options`]; the defaults stand in [`super::types`].

use std::fmt;

use super::Config;
use super::check::Text;
use super::keyed::Keyed;
use super::types::{
    AccessMode, DnsPolicy, Durability, Engine, IsolationChoice, LogFormat, LogLevel, PullPolicy,
};
use super::units::{self, Size};
use super::value::Value;

/// One option.
pub struct Opt {
    /// Its table, e.g. `builder.daemon`.
    pub table: &'static str,
    /// Its key in that table.
    pub key: &'static str,
    /// What it accepts.
    pub kind: Kind,
    /// For the docs, as TOML, where the default is "not set".
    pub example: &'static str,
    /// What it is for, one or more sentences.
    pub doc: &'static str,
    /// Who acts on it.
    pub readers: &'static [Reader],
    /// When a change counts.
    pub effect: Effect,
    /// Where its value is kept.
    pub(super) field: Field,
}

impl Opt {
    /// `table.key`.
    #[must_use]
    pub fn path(&self) -> String {
        format!("{}.{}", self.table, self.key)
    }

    /// Its value in this configuration.
    #[must_use]
    pub fn value(&self, config: &Config) -> Value {
        (self.field.get)(config)
    }

    /// Its value in this configuration as TOML; `None`: not set.
    #[must_use]
    pub fn shown(&self, config: &Config) -> Option<String> {
        match self.value(config) {
            Value::Unset if self.kind.has_never() => Some(format!("\"{}\"", units::NEVER)),
            value => value.to_toml(),
        }
    }

    /// The same for a log, without what may be secret: the values of tables, of whose keys we know
    /// nothing.
    #[must_use]
    pub fn logged(&self, config: &Config) -> Option<String> {
        match self.value(config) {
            Value::Map(settings) => {
                Value::Map(settings.into_keys().map(|key| (key, "…".to_owned())).collect()).to_toml()
            }
            Value::Json(_) => Value::Text("…".to_owned()).to_toml(),
            _ => self.shown(config),
        }
    }
}

impl fmt::Debug for Opt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path())
    }
}

/// Reads and writes one field of the typed configuration.
pub(super) struct Field {
    pub(super) get: fn(&Config) -> Value,
    /// False: the value is of another type, which a test rules out for every option.
    pub(super) set: fn(&mut Config, Value) -> bool,
}

/// [`Field`] of a path into [`Config`].
macro_rules! field {
    ($($part:ident).+) => {
        $crate::config::option::Field {
            get: |config| $crate::config::value::Stored::to_value(&config.$($part).+),
            set: |config, value| match $crate::config::value::Stored::from_value(value) {
                Some(value) => {
                    config.$($part).+ = value;
                    true
                }
                None => false,
            },
        }
    };
}
pub(super) use field;

/// The values that an option accepts.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number, both ends included.
    Int(u64, u64),
    /// A number of CPUs, at least 0.01.
    Cpus,
    /// A size of at least so much.
    Size(Size),
    /// A duration, in seconds from and to, both included.
    Duration(u64, u64),
    /// The same, or [`units::NEVER`].
    DurationOrNever(u64, u64),
    /// One of these words.
    Word(&'static [&'static str]),
    /// A string of this form.
    Text(Text),
    /// A list of strings of this form.
    List(Text),
    /// A table of settings of nix.conf.
    NixSettings,
    /// A table of strings.
    Keyed(Keyed),
    /// A table in the words of the Kubernetes API, which the client knows.
    ApiTable(&'static str),
    /// A list of such tables.
    ApiTables(&'static str),
}

impl Kind {
    /// Whether "not set" is written as a word.
    #[must_use]
    pub fn has_never(&self) -> bool {
        matches!(self, Self::DurationOrNever(..))
    }

    /// Whether its value is a table, and "not set" an empty one.
    #[must_use]
    pub fn is_table(&self) -> bool {
        matches!(self, Self::NixSettings | Self::Keyed(_))
    }

    /// What it accepts, in words.
    #[must_use]
    pub fn accepted(&self) -> String {
        let span = |from: &u64, to: &u64| {
            let show = |s: &u64| units::format_duration(std::time::Duration::from_secs(*s));
            format!("{} from {} to {}", units::DURATION_FORM, show(from), show(to))
        };
        match self {
            Self::Bool => "true or false".to_owned(),
            Self::Int(from, to) => format!("a whole number from {from} to {to}"),
            Self::Cpus => format!("{} of at least 0.01", units::CPUS_FORM),
            Self::Size(least) => format!("{} of at least {least}", units::SIZE_FORM),
            Self::Duration(from, to) => span(from, to),
            Self::DurationOrNever(from, to) => format!("\"{}\" or {}", units::NEVER, span(from, to)),
            Self::Word(words) => {
                let quoted: Vec<String> = words.iter().map(|word| format!("\"{word}\"")).collect();
                quoted.join(" or ")
            }
            Self::Text(text) => text.form().to_owned(),
            Self::List(text) => format!("a list of strings, each {}", text.form()),
            Self::NixSettings => "a table of settings of nix.conf".to_owned(),
            Self::Keyed(keyed) => format!("a table of strings: {}", keyed.form()),
            Self::ApiTable(api) => format!("a table with the fields of {api} in the Kubernetes API"),
            Self::ApiTables(api) => {
                format!("a list of tables, each with the fields of {api} in the Kubernetes API")
            }
        }
    }
}

/// Who acts on an option.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reader {
    /// trampoline-cli.
    Client,
    /// daemon-init.
    Daemon,
    /// user-init.
    User,
    /// maintenance-agent.
    Maintenance,
    /// shutdown-monitor.
    ShutdownMonitor,
}

impl Reader {
    /// All four agents.
    pub const AGENTS: &'static [Self] = &[Self::Daemon, Self::User, Self::Maintenance, Self::ShutdownMonitor];

    /// Name of the program.
    #[must_use]
    pub fn program(self) -> &'static str {
        match self {
            Self::Client => "trampoline-cli",
            Self::Daemon => "daemon-init",
            Self::User => "user-init",
            Self::Maintenance => "maintenance-agent",
            Self::ShutdownMonitor => "shutdown-monitor",
        }
    }
}

/// When a changed value counts in a builder that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// As soon as the agents see the file.
    Live,
    /// After the builder has stopped and started.
    Restart,
    /// After `trampoline-cli setup`.
    Setup,
}

impl Effect {
    /// For the docs.
    #[must_use]
    pub fn when(self) -> &'static str {
        match self {
            Self::Live => "at once",
            Self::Restart => "after a restart of the builder",
            Self::Setup => "after `trampoline-cli setup`",
        }
    }
}

/// An enum as it stands in the file: a name for each value, in the same order.
pub(super) trait Word: Copy + PartialEq + 'static {
    const NAMES: &'static [&'static str];
    const VALUES: &'static [Self];

    fn from_name(name: &str) -> Option<Self> {
        let place = Self::NAMES.iter().position(|known| *known == name)?;
        Self::VALUES.get(place).copied()
    }
}

impl Word for Engine {
    const NAMES: &'static [&'static str] = &["podman", "kubernetes"];
    const VALUES: &'static [Self] = &[Self::Podman, Self::Kubernetes];
}

impl Word for LogLevel {
    const NAMES: &'static [&'static str] = &["error", "warn", "info", "debug", "trace"];
    const VALUES: &'static [Self] = &[Self::Error, Self::Warn, Self::Info, Self::Debug, Self::Trace];
}

impl Word for LogFormat {
    const NAMES: &'static [&'static str] = &["text", "json"];
    const VALUES: &'static [Self] = &[Self::Text, Self::Json];
}

impl Word for AccessMode {
    const NAMES: &'static [&'static str] = &["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"];
    const VALUES: &'static [Self] = &[Self::ReadWriteOnce, Self::ReadWriteOncePod, Self::ReadWriteMany];
}

impl Word for IsolationChoice {
    const NAMES: &'static [&'static str] = &["auto", "userns", "privileged"];
    const VALUES: &'static [Self] = &[Self::Auto, Self::Userns, Self::Privileged];
}

impl Word for Durability {
    const NAMES: &'static [&'static str] = &["checkpoints", "strict"];
    const VALUES: &'static [Self] = &[Self::Checkpoints, Self::Strict];
}

impl Word for PullPolicy {
    const NAMES: &'static [&'static str] = &["Always", "IfNotPresent", "Never"];
    const VALUES: &'static [Self] = &[Self::Always, Self::IfNotPresent, Self::Never];
}

impl Word for DnsPolicy {
    const NAMES: &'static [&'static str] = &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"];
    const VALUES: &'static [Self] =
        &[Self::ClusterFirst, Self::ClusterFirstWithHostNet, Self::Default, Self::None];
}

macro_rules! as_str {
    ($($name:ty),+) => { $(
        impl $name {
            /// The word that stands in the file.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                let place = Self::VALUES.iter().position(|value| *value == self);
                place.and_then(|place| Self::NAMES.get(place)).copied().unwrap_or_default()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )+ };
}
as_str!(Durability, Engine, LogLevel, LogFormat, AccessMode, PullPolicy, DnsPolicy, IsolationChoice);
