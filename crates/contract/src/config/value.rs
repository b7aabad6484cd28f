//! A checked value of any option, between the file and the typed field.

use std::collections::BTreeMap;
use std::time::Duration;

use super::option::Word;
use super::types::{
    AccessMode, DnsPolicy, Durability, Engine, IsolationChoice, LogFormat, LogLevel, PullPolicy,
};
use super::units::{self, Size};

/// A checked value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing, or "never".
    Unset,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Int(u64),
    /// A number of CPUs.
    Cpus(f64),
    /// Bytes.
    Size(Size),
    /// Whole seconds.
    Duration(Duration),
    /// A string, or the word of an enum.
    Text(String),
    /// Strings.
    List(Vec<String>),
    /// Strings by key.
    Map(BTreeMap<String, String>),
    /// A table or a list of tables, as the Kubernetes API has it.
    Json(serde_json::Value),
}

impl Value {
    /// As it would stand in the file; `None` if it is not set.
    #[must_use]
    pub fn to_toml(&self) -> Option<String> {
        Some(match self {
            Self::Unset => return None,
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Cpus(value) => value.to_string(),
            Self::Size(value) => quoted(&value.to_string()),
            Self::Duration(value) => quoted(&units::format_duration(*value)),
            Self::Text(value) => quoted(value),
            Self::List(values) => {
                let items: Vec<String> = values.iter().map(|value| quoted(value)).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(values) if values.is_empty() => "{}".to_owned(),
            Self::Map(values) => {
                let items: Vec<String> = values
                    .iter()
                    .map(|(key, value)| format!("{} = {}", key_text(key), quoted(value)))
                    .collect();
                format!("{{ {} }}", items.join(", "))
            }
            Self::Json(value) => json_to_toml(value),
        })
    }
}

/// Inline, on one line. TOML has no `null`, so none can have been read.
fn json_to_toml(value: &serde_json::Value) -> String {
    use serde_json::Value as Json;
    match value {
        Json::String(text) => quoted(text),
        Json::Array(items) => {
            let items: Vec<String> = items.iter().map(json_to_toml).collect();
            format!("[{}]", items.join(", "))
        }
        Json::Object(map) if map.is_empty() => "{}".to_owned(),
        Json::Object(map) => {
            let items: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{} = {}", key_text(key), json_to_toml(value)))
                .collect();
            format!("{{ {} }}", items.join(", "))
        }
        other => other.to_string(),
    }
}

/// A key as TOML: quoted where it has to be.
pub(crate) fn key_text(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quoted(key) }
}

/// A TOML basic string.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A field's type, to and from a [`Value`].
pub(super) trait Stored: Sized {
    fn to_value(&self) -> Value;
    /// `None`: a value of another type.
    fn from_value(value: Value) -> Option<Self>;
}

/// For types that are the payload of one variant.
macro_rules! stored {
    ($($type:ty => $variant:ident),+ $(,)?) => { $(
        impl Stored for $type {
            fn to_value(&self) -> Value {
                Value::$variant(self.clone())
            }
            fn from_value(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(value) => Some(value),
                    _ => None,
                }
            }
        }
    )+ };
}
stored! {
    bool => Bool,
    u64 => Int,
    f64 => Cpus,
    Size => Size,
    Duration => Duration,
    String => Text,
    Vec<String> => List,
    BTreeMap<String, String> => Map,
    serde_json::Value => Json,
}

/// For the smaller integers.
macro_rules! stored_int {
    ($($type:ty),+) => { $(
        impl Stored for $type {
            fn to_value(&self) -> Value {
                Value::Int(u64::from(*self))
            }
            fn from_value(value: Value) -> Option<Self> {
                u64::from_value(value).and_then(|n| Self::try_from(n).ok())
            }
        }
    )+ };
}
stored_int!(u16, u32);

macro_rules! stored_word {
    ($($type:ty),+) => { $(
        impl Stored for $type {
            fn to_value(&self) -> Value {
                Value::Text(self.as_str().to_owned())
            }
            fn from_value(value: Value) -> Option<Self> {
                Self::from_name(&String::from_value(value)?)
            }
        }
    )+ };
}
stored_word!(Durability, Engine, LogLevel, LogFormat, AccessMode, PullPolicy, DnsPolicy, IsolationChoice);

impl<T: Stored> Stored for Option<T> {
    fn to_value(&self) -> Value {
        self.as_ref().map_or(Value::Unset, T::to_value)
    }
    fn from_value(value: Value) -> Option<Self> {
        match value {
            Value::Unset => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}
