//! Strategic merge patches of a pod template, as `kubectl patch` takes them: maps merge, lists merge by the key that
//! the API names for them, `$patch` deletes and replaces, `$retainKeys` drops the rest of a map.
//!
//! One thing differs: what a patch adds to a list comes last, not first, so that the pod's own init container stays
//! the first.

use serde_json::{Map, Value};

use super::strict::Problem;

/// Lists below a `PodTemplateSpec` that merge, with the field by which, as the API's own description has it
/// (`x-kubernetes-patch-merge-key`). No other list there has one of these names.
const MERGE_KEYS: [(&str, &str); 15] = [
    ("containers", "name"),
    ("env", "name"),
    ("ephemeralContainers", "name"),
    ("evictionResponders", "name"),
    ("hostAliases", "ip"),
    ("imagePullSecrets", "name"),
    ("initContainers", "name"),
    ("ownerReferences", "uid"),
    ("ports", "containerPort"),
    ("resourceClaims", "name"),
    ("schedulingGates", "name"),
    ("topologySpreadConstraints", "topologyKey"),
    ("volumeDevices", "devicePath"),
    ("volumeMounts", "mountPath"),
    ("volumes", "name"),
];
/// A list of plain values that merges.
const UNION: &str = "finalizers";

const PATCH: &str = "$patch";
const RETAIN: &str = "$retainKeys";

/// Patches `original`.
pub(crate) fn merge(original: &mut Value, patch: &Value) -> Result<(), Problem> {
    let mut path = Vec::new();
    match (original, patch) {
        (Value::Object(original), Value::Object(patch)) => merge_map(original, patch, &mut path),
        _ => Err(problem(&path, "not a table")),
    }
}

/// The patch without its directives, in the same places: what remains has the fields of the patched type.
pub(crate) fn without_directives(patch: &Value) -> Value {
    match patch {
        Value::Object(map) => Value::Object(
            map.iter()
                .filter(|(key, _)| !key.starts_with('$'))
                .map(|(key, value)| (key.clone(), without_directives(value)))
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.iter().map(without_directives).collect()),
        other => other.clone(),
    }
}

fn problem(path: &[String], problem: impl Into<String>) -> Problem {
    Problem { path: path.to_vec(), problem: problem.into() }
}

/// What `$patch` says.
fn directive<'a>(map: &'a Map<String, Value>, path: &[String]) -> Result<&'a str, Problem> {
    if let Some(other) = map.keys().find(|key| key.starts_with('$') && *key != PATCH && *key != RETAIN) {
        return Err(problem(&below(path, other), format!("accepted: {PATCH} and {RETAIN}")));
    }
    match map.get(PATCH) {
        None => Ok("merge"),
        Some(Value::String(word)) if ["merge", "delete", "replace"].contains(&word.as_str()) => Ok(word),
        Some(other) => Err(problem(
            &below(path, PATCH),
            format!("{other} is none of \"delete\", \"replace\", \"merge\""),
        )),
    }
}

fn below(path: &[String], step: &str) -> Vec<String> {
    [path, &[step.to_owned()]].concat()
}

fn merge_map(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    path: &mut Vec<String>,
) -> Result<(), Problem> {
    match directive(patch, path)? {
        "delete" => {
            original.clear();
            return Ok(());
        }
        "replace" => original.clear(),
        _ => {}
    }
    if let Some(retained) = patch.get(RETAIN) {
        let keys: Option<Vec<&str>> =
            retained.as_array().and_then(|keys| keys.iter().map(Value::as_str).collect());
        let Some(keys) = keys else {
            return Err(problem(&below(path, RETAIN), "not a list of strings"));
        };
        original.retain(|key, _| keys.contains(&key.as_str()));
    }
    for (key, value) in patch.iter().filter(|(key, _)| !key.starts_with('$')) {
        path.push(key.clone());
        match value {
            Value::Null => {
                original.remove(key);
            }
            Value::Object(patch) => {
                let deletes = directive(patch, path)? == "delete";
                match original.get_mut(key) {
                    Some(Value::Object(original)) if !deletes => merge_map(original, patch, path)?,
                    _ if deletes => {
                        original.remove(key);
                    }
                    _ => {
                        let mut new = Map::new();
                        merge_map(&mut new, patch, path)?;
                        original.insert(key.clone(), Value::Object(new));
                    }
                }
            }
            Value::Array(patch) => {
                let before = match original.remove(key) {
                    Some(Value::Array(items)) => items,
                    _ => Vec::new(),
                };
                original.insert(key.clone(), Value::Array(merge_list(key, before, patch, path)?));
            }
            other => {
                original.insert(key.clone(), other.clone());
            }
        }
        path.pop();
    }
    Ok(())
}

fn merge_list(
    key: &str,
    mut items: Vec<Value>,
    patch: &[Value],
    path: &mut Vec<String>,
) -> Result<Vec<Value>, Problem> {
    if key == UNION {
        items.extend(patch.iter().filter(|value| !items.contains(value)).cloned().collect::<Vec<_>>());
        return Ok(items);
    }
    let replaces =
        |item: &Value| item.as_object().is_some_and(|map| map.get(PATCH) == Some(&"replace".into()));
    let by = MERGE_KEYS.iter().find(|(list, _)| *list == key).map(|(_, by)| *by);
    let Some(by) = by.filter(|_| !patch.iter().any(replaces)) else {
        return Ok(patch.iter().filter(|item| !replaces(item)).map(without_directives).collect());
    };
    for (index, item) in patch.iter().enumerate() {
        path.push(index.to_string());
        let Value::Object(map) = item else {
            return Err(problem(path, format!("not a table; this list merges by `{by}`")));
        };
        let Some(id) = map.get(by) else {
            return Err(problem(path, format!("has no `{by}`, by which this list merges")));
        };
        let place = items.iter().position(|item| item.get(by) == Some(id));
        match (directive(map, path)?, place) {
            ("delete", Some(place)) => {
                items.remove(place);
            }
            ("delete", None) => {}
            (_, place) => {
                let place = place.unwrap_or_else(|| {
                    items.push(Value::Object(Map::new()));
                    items.len() - 1
                });
                if let Some(Value::Object(original)) = items.get_mut(place) {
                    merge_map(original, map, path)?;
                }
            }
        }
        path.pop();
    }
    Ok(items)
}

#[cfg(test)]
#[path = "strategic_tests.rs"]
mod tests;
