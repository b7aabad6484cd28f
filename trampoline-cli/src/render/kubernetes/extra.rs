//! `extra-volumes`: volumes as the API has them, each with where it is mounted.

use contract::places::{Container, IMAGE_DIR, NIX, RUN, VOLUME_ROOT};
use k8s_openapi::api::core::v1::{Volume, VolumeMount};
use serde::Deserialize;
use serde_json::Value;

use crate::render::strict::{self, Problem};

/// One volume and who sees it.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) volume: Volume,
    pub(super) mount: VolumeMount,
    pub(super) containers: Vec<Container>,
}

/// What is ours in the table; all else is the volume's.
const OURS: [&str; 4] = ["mountPath", "subPath", "readOnly", "containers"];
/// Volumes of the template.
const TAKEN: [&str; 5] = ["store", "home", "run", "config", "token"];
/// Folders that the builder fills itself.
const CLOSED: [&str; 4] = [NIX, RUN, VOLUME_ROOT, IMAGE_DIR];

/// Refuses what is no volume, and what would cover something of the builder's.
pub(super) fn read(tables: &[Value]) -> Result<Vec<Extra>, Problem> {
    let mut all: Vec<Extra> = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let extra = one(table).map_err(|problem| Problem {
            path: [vec![index.to_string()], problem.path].concat(),
            problem: problem.problem,
        })?;
        if all.iter().any(|other| other.volume.name == extra.volume.name) {
            return Err(at(&[&index.to_string(), "name"], "another volume has this name"));
        }
        all.push(extra);
    }
    Ok(all)
}

fn at(path: &[&str], problem: impl Into<String>) -> Problem {
    Problem { path: path.iter().map(|&step| step.to_owned()).collect(), problem: problem.into() }
}

fn one(table: &Value) -> Result<Extra, Problem> {
    let Some(table) = table.as_object() else { return Err(at(&[], "not a table")) };
    let (ours, theirs): (serde_json::Map<_, _>, serde_json::Map<_, _>) =
        table.clone().into_iter().partition(|(key, _)| OURS.contains(&key.as_str()));
    let volume: Volume = strict::read(&Value::Object(theirs))?;
    if volume.name.is_empty() {
        return Err(at(&[], "has no `name`"));
    }
    if TAKEN.contains(&volume.name.as_str()) {
        return Err(at(&["name"], format!("{} is a volume of the builder's own", volume.name)));
    }
    let mut mount = serde_json::Map::from_iter([("name".to_owned(), Value::from(volume.name.clone()))]);
    mount.extend(ours.iter().filter(|(key, _)| *key != "containers").map(|(k, v)| (k.clone(), v.clone())));
    let mount: VolumeMount = strict::read(&Value::Object(mount))?;
    if !mount.mount_path.starts_with('/') {
        return Err(at(&["mountPath"], "must be a path that begins with /"));
    }
    let covers = |ours: &str| {
        mount.mount_path.strip_prefix(ours).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if let Some(ours) = CLOSED.iter().find(|ours| covers(ours)) {
        return Err(at(&["mountPath"], format!("{ours} is the builder's own")));
    }
    let containers = match ours.get("containers") {
        None => vec![Container::Daemon, Container::User],
        Some(names) => {
            Vec::<Container>::deserialize(names).map_err(|error| at(&["containers"], error.to_string()))?
        }
    };
    Ok(Extra { volume, mount, containers })
}
