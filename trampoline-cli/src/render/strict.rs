//! Reading into types of the Kubernetes API without dropping what they do not know.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is wrong with a value, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Keys, and indices of lists, from the value's root.
    pub(crate) path: Vec<String>,
    /// In few words.
    pub(crate) problem: String,
}

/// Reads `value`; a field that the type does not have is refused, as are values of another type.
pub(crate) fn read<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T, Problem> {
    let typed: T = serde_path_to_error::deserialize(value)
        .map_err(|error| Problem { path: steps(error.path()), problem: error.inner().to_string() })?;
    // The types skip what they do not know: what they give back tells what that was.
    let back = serde_json::to_value(&typed)
        .map_err(|error| Problem { path: Vec::new(), problem: error.to_string() })?;
    let mut path = Vec::new();
    match lost(value, &back, &mut path) {
        true => Err(Problem { path, problem: "no such field".to_owned() }),
        false => Ok(typed),
    }
}

fn steps(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// Whether something of `given` is not in `back`; `path` then leads to it.
fn lost(given: &Value, back: &Value, path: &mut Vec<String>) -> bool {
    match (given, back) {
        (Value::Object(given), Value::Object(back)) => given.iter().any(|(key, value)| {
            path.push(key.clone());
            let is_lost = match back.get(key) {
                Some(back) => lost(value, back, path),
                None => !value.is_null(),
            };
            if !is_lost {
                path.pop();
            }
            is_lost
        }),
        (Value::Array(given), Value::Array(back)) => {
            given.iter().zip(back).enumerate().any(|(index, (a, b))| {
                path.push(index.to_string());
                let is_lost = lost(a, b, path);
                if !is_lost {
                    path.pop();
                }
                is_lost
            })
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodTemplateSpec;
    use serde_json::json;

    use super::*;

    fn refused(value: &Value) -> (String, String) {
        let problem = read::<PodTemplateSpec>(value).unwrap_err();
        (problem.path.join("."), problem.problem)
    }

    #[test]
    fn unknown_fields_are_named_wherever_they_stand() {
        for (value, path) in [
            (json!({ "specs": {} }), "specs"),
            (json!({ "spec": { "hostNetwrk": true } }), "spec.hostNetwrk"),
            (
                json!({ "spec": { "containers": [{ "name": "a" }, { "name": "b", "lifecycle": { "preStop":
                  { "exec": { "cmd": [] } } } }] } }),
                "spec.containers.1.lifecycle.preStop.exec.cmd",
            ),
            (json!({ "spec": { "volumes": [{ "name": "a", "emptydir": {} }] } }), "spec.volumes.0.emptydir"),
        ] {
            assert_eq!(refused(&value), (path.to_owned(), "no such field".to_owned()));
        }
    }

    #[test]
    fn values_of_another_type_are_named() {
        let (path, problem) = refused(&json!({ "spec": { "containers": [{ "name": 5 }] } }));
        assert_eq!(path, "spec.containers.0.name");
        assert!(problem.contains("expected a string"), "{problem}");
        assert_eq!(refused(&json!({ "spec": [] })).0, "spec");
    }

    #[test]
    fn what_is_right_is_read() {
        let value = json!({ "metadata": { "labels": { "a": "b" } }, "spec": {
            "affinity": { "nodeAffinity": {} },
            "containers": [{ "name": "a", "ports": [{ "containerPort": 1 }], "resources": { "limits": { "cpu": "1" } },
                "livenessProbe": { "httpGet": { "port": "http", "path": "/" } } }],
            "volumes": [{ "name": "a", "emptyDir": {} }],
        } });
        assert_eq!(serde_json::to_value(read::<PodTemplateSpec>(&value).unwrap()).unwrap(), value);
    }
}
