//! Tables of strings whose keys and values have a form of their own.

use std::net::IpAddr;

use super::check::{dns_name, only, starts};
use super::secret;

/// What the keys and values of a table of strings are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keyed {
    /// Labels of objects of ours.
    Labels,
    /// Labels that a node has.
    NodeLabels,
    /// Annotations of objects of ours.
    Annotations,
    /// Environment of a container.
    Environment,
    /// Addresses by the name of the host.
    Hosts,
}

/// Keys that say whose an object is; the selectors go by them.
const OURS: &str = "io.trampoline";
/// The same, of the recommended labels.
const NAME: &str = "app.kubernetes.io/name";
/// Variables that the agents rely on.
const VARIABLES: [&str; 5] = ["HOME", "USER", "PATH", "NIX_REMOTE", "NIX_CONF_DIR"];

impl Keyed {
    /// What is accepted, in words.
    #[must_use]
    pub fn form(self) -> &'static str {
        match self {
            Self::Labels => {
                "labels other than ours, e.g. \"example.org/team\" = \"a\", each value at most 63 letters, digits, dots, hyphens and underscores"
            }
            Self::NodeLabels => "labels as `kubectl get nodes --show-labels` lists them",
            Self::Annotations => "annotations other than ours, e.g. \"example.org/contact\" = \"somebody\"",
            Self::Environment => "variables that the builder does not rely on, e.g. TZ = \"UTC\"",
            Self::Hosts => "an address by the name of the host, e.g. \"cache.example\" = \"10.0.0.7\"",
        }
    }

    /// Of the keys, for the JSON schema.
    pub(crate) fn key_pattern(self) -> &'static str {
        match self {
            Self::Labels | Self::NodeLabels | Self::Annotations => {
                "^([a-z0-9.-]+/)?[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$"
            }
            Self::Environment => "^[A-Za-z_][A-Za-z0-9_]*$",
            Self::Hosts => "^[a-z0-9.-]+$",
        }
    }

    /// Whether this may be a key.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_key(self, key: &str) -> Result<(), String> {
        match self {
            Self::Labels | Self::Annotations => {
                qualified(key)?;
                let ours = key.split_once('/').map_or(key, |(prefix, _)| prefix);
                let below =
                    ours.strip_prefix(OURS).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
                if below || key == NAME { Err("it tells whose an object is".to_owned()) } else { Ok(()) }
            }
            Self::NodeLabels => qualified(key),
            Self::Environment => {
                let letter = |c: char| c.is_ascii_alphabetic() || c == '_';
                if key.is_empty() {
                    return Err("empty".to_owned());
                }
                only(key, |c| letter(c) || c.is_ascii_digit())?;
                starts(key, letter)?;
                if key.starts_with("TRAMPOLINE_") || VARIABLES.contains(&key) {
                    return Err("the builder relies on it".to_owned());
                }
                Ok(())
            }
            Self::Hosts => dns_name(key, 253, true),
        }
    }

    /// Whether this may be a value.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_value(self, value: &str) -> Result<(), String> {
        match self {
            Self::Labels | Self::NodeLabels if value.is_empty() => Ok(()),
            Self::Labels | Self::NodeLabels => part(value),
            Self::Annotations => secret::refuse(value, "whoever may read the objects could as well"),
            Self::Environment if value.contains('\0') => Err("holds a zero byte".to_owned()),
            Self::Environment => secret::refuse(value, "a Secret that is mounted as a file can hold it"),
            Self::Hosts if value.parse::<IpAddr>().is_ok() => Ok(()),
            Self::Hosts => Err("not an address".to_owned()),
        }
    }
}

/// `[prefix/]name`, as Kubernetes has it for labels and annotations.
fn qualified(key: &str) -> Result<(), String> {
    match key.split_once('/') {
        Some((prefix, name)) => {
            dns_name(prefix, 253, true)?;
            part(name)
        }
        None => part(key),
    }
}

/// A name, or the value of a label.
fn part(text: &str) -> Result<(), String> {
    let end = |c: char| c.is_ascii_alphanumeric();
    if text.is_empty() {
        return Err("empty".to_owned());
    }
    if text.len() > 63 {
        return Err(format!("{} letters long", text.len()));
    }
    only(text, |c| end(c) || "._-".contains(c))?;
    starts(text, end)?;
    if text.ends_with(end) { Ok(()) } else { Err("ends with neither letter nor digit".to_owned()) }
}
