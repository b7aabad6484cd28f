//! What `setup` would change.

use contract::config::{Config, Effect, live_changes};
use serde_json::Value;

use super::{CONFIG_KEY, Rendering};

/// One difference between what is there and what should be.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Difference {
    /// Key of trampoline.toml, or path in the pod.
    pub(crate) what: String,
    /// Before, as text.
    pub(crate) from: String,
    /// After, as text.
    pub(crate) to: String,
    /// When it counts.
    pub(crate) when: &'static str,
}

/// Of what is the pod's.
pub(crate) const POD_AGAIN: &str = "now: the pod is made again";

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} -> {} ({})", self.what, self.from, self.to, self.when)
    }
}

/// Of the configuration that is remembered with the old one, and of the pod.
pub(crate) fn all(old: &Rendering, config: &Config, new: &Rendering) -> Vec<Difference> {
    [self::config(old, config), pod(old, new)].concat()
}

/// Of the configuration, key by key.
pub(crate) fn config(old: &Rendering, new: &Config) -> Vec<Difference> {
    let text = old.files.get(CONFIG_KEY).map_or("", String::as_str);
    let Ok(old) = Config::parse(text, CONFIG_KEY) else { return Vec::new() };
    let shown = |text: Option<String>| text.unwrap_or_else(|| "not set".to_owned());
    live_changes(&old, new)
        .into_iter()
        .map(|change| Difference {
            what: change.option.path(),
            from: shown(change.option.shown(&old)),
            to: shown(change.option.shown(new)),
            when: match change.effect() {
                Effect::Live => "at once",
                Effect::Restart => "after the next start",
                Effect::Setup => POD_AGAIN,
            },
        })
        .collect()
}

/// Of the pod, leaf by leaf.
fn pod(old: &Rendering, new: &Rendering) -> Vec<Difference> {
    let json =
        |rendering: &Rendering| serde_json::to_value(rendering.pod.spec.as_ref()).unwrap_or(Value::Null);
    values("pod", &json(old), &json(new))
}

/// Of any two values, leaf by leaf.
pub(crate) fn values(path: &str, old: &Value, new: &Value) -> Vec<Difference> {
    let mut differences = Vec::new();
    walk(path, Some(old), Some(new), &mut differences);
    differences
}

fn walk(path: &str, old: Option<&Value>, new: Option<&Value>, out: &mut Vec<Difference>) {
    match (old, new) {
        (old, new) if old == new => {}
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let mut keys: Vec<&String> = a.keys().chain(b.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                walk(&format!("{path}.{key}"), a.get(key), b.get(key), out);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                let named = b.get(index).or(a.get(index)).and_then(|item| item.get("name"));
                let step = named.and_then(Value::as_str).map_or_else(|| index.to_string(), str::to_owned);
                walk(&format!("{path}.{step}"), a.get(index), b.get(index), out);
            }
        }
        (old, new) => {
            out.push(Difference { what: path.to_owned(), from: show(old), to: show(new), when: POD_AGAIN })
        }
    }
}

fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "not set".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}
