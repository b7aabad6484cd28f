//! What podman knows of builders: containers carry the pod's labels, so one listing tells everything.

use std::collections::{BTreeMap, HashMap};

use contract::handshake::{Isolation, LastStop, file};
use contract::places::{Container, MARK_DIR, VOLUME};
use serde::Deserialize;

use super::{command, container_name, exec};
use crate::engine::{ContainerState, Observed, Volume, label, pod_name};
use crate::error::{CliError, Result};
use crate::ui::Ui;

/// A line of `podman ps --format json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Ps {
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    state: String,
    #[serde(default)]
    exit_code: i32,
    #[serde(default)]
    pid: u32,
    #[serde(default)]
    image: String,
    #[serde(default, rename = "ImageID")]
    image_id: Option<String>,
    #[serde(default)]
    ports: Option<Vec<Port>>,
    #[serde(default)]
    is_infra: bool,
}

#[derive(Deserialize)]
struct Port {
    host_port: u16,
}

/// A line of `podman volume ls --format json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct VolumeLine {
    name: String,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

/// Volumes by name, with the builder that each is labelled for.
pub(super) type Owners = HashMap<String, Option<String>>;

/// One builder, empty if there is none; then also every volume of this machine. Where there is a pod, its volumes are there as well:
/// podman gives none away that a container uses, and to ask it costs as much as all the rest.
pub(super) async fn one(ui: Ui, builder: &str) -> Result<(Observed, Option<Owners>)> {
    let mut found = containers(ui, &of_pod(builder)).await?;
    if let Some(observed) = found.remove(builder) {
        return Ok((Observed { volumes: Volume::ALL.to_vec(), ..observed }, None));
    }
    let owners = add_volumes(&mut found, volume_lines(ui).await?);
    Ok((taken(found, builder), Some(owners)))
}

/// The same, and every volume of this machine, for who will need them: it is asked for both at once.
pub(super) async fn whole(ui: Ui, builder: &str) -> Result<(Observed, Owners)> {
    let (found, owners) = with_volumes(ui, &of_pod(builder)).await?;
    Ok((taken(found, builder), owners))
}

/// Every volume of this machine.
pub(super) async fn volumes(ui: Ui) -> Result<Owners> {
    Ok(add_volumes(&mut BTreeMap::new(), volume_lines(ui).await?))
}

/// All builders, by name.
pub(super) async fn all(ui: Ui) -> Result<Vec<Observed>> {
    let (found, _) = with_volumes(ui, &format!("label={}", label::BUILDER)).await?;
    Ok(found.into_values().collect())
}

/// A filter of podman's lists.
pub(super) fn labelled(builder: &str) -> String {
    format!("label={}={builder}", label::BUILDER)
}

/// Its pod's infra container carries no label, and nothing is listed where there is no such pod.
fn of_pod(builder: &str) -> String {
    format!("pod={}", pod_name(builder))
}

fn taken(mut found: BTreeMap<String, Observed>, builder: &str) -> Observed {
    found.remove(builder).unwrap_or_else(|| Observed { builder: builder.to_owned(), ..Observed::default() })
}

async fn with_volumes(ui: Ui, filter: &str) -> Result<(BTreeMap<String, Observed>, Owners)> {
    let (found, lines) = tokio::join!(containers(ui, filter), volume_lines(ui));
    let mut found = found?;
    let owners = add_volumes(&mut found, lines?);
    Ok((found, owners))
}

async fn containers(ui: Ui, filter: &str) -> Result<BTreeMap<String, Observed>> {
    let lines = command::listed(ui, &["ps", "--all", "--filter", filter, "--format", "json"]).await?;
    let mut found = BTreeMap::new();
    let mut lingers = false;
    for line in parse::<Ps>(&lines)? {
        lingers |= line.is_infra && line.state == "running";
        add_container(&mut found, line);
    }
    for observed in found.values_mut() {
        observed.lingers = lingers && observed.containers.iter().all(|container| !container.running);
        observed.containers.sort_by_key(|container| {
            Container::ALL.iter().position(|known| known.name() == container.name).unwrap_or(usize::MAX)
        });
    }
    Ok(found)
}

/// They are listed whole: it takes no longer, and somebody else's of our names must be known before ours are made.
async fn volume_lines(ui: Ui) -> Result<Vec<VolumeLine>> {
    parse(&command::listed(ui, &["volume", "ls", "--format", "json"]).await?)
}

fn add_volumes(found: &mut BTreeMap<String, Observed>, lines: Vec<VolumeLine>) -> Owners {
    let mut owners = Owners::new();
    for line in lines {
        let owner = line.labels.as_ref().and_then(|labels| labels.get(label::BUILDER).cloned());
        owners.insert(line.name.clone(), owner);
        add_volume(found, line);
    }
    found.values_mut().for_each(|observed| observed.volumes.sort_unstable());
    owners
}

/// podman prints nothing at all, or `null`, for an empty list.
fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<Vec<T>> {
    if bytes.trim_ascii().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_slice::<Option<Vec<T>>>(bytes)
        .map(Option::unwrap_or_default)
        .map_err(|error| CliError::engine(format!("cannot read what podman lists: {error}")))
}

fn entry<'a>(
    found: &'a mut BTreeMap<String, Observed>,
    labels: &HashMap<String, String>,
) -> Option<&'a mut Observed> {
    let builder = labels.get(label::BUILDER)?;
    let observed = found
        .entry(builder.clone())
        .or_insert_with(|| Observed { builder: builder.clone(), ..Observed::default() });
    if observed.owner.is_none() {
        observed.owner = labels.get(label::OWNER).cloned();
    }
    Some(observed)
}

fn add_container(found: &mut BTreeMap<String, Observed>, line: Ps) {
    let labels = line.labels.unwrap_or_default();
    let Some(observed) = entry(found, &labels) else { return };
    let prefix = format!("{}-", pod_name(&observed.builder));
    let Some(name) = line.names.iter().find_map(|name| name.strip_prefix(&prefix)) else { return };
    observed.containers.push(ContainerState {
        name: name.to_owned(),
        running: line.state == "running",
        created: matches!(line.state.as_str(), "created" | "configured" | "initialized"),
        exit_code: line.exit_code,
        pid: Some(line.pid).filter(|pid| *pid != 0),
    });
    observed.digest = labels.get(label::DIGEST).cloned();
    observed.image = Some(line.image);
    observed.image_id = line.image_id;
    // The only one that its pods know.
    observed.isolation = Some(Isolation::Privileged);
    observed.ssh_port = line.ports.unwrap_or_default().first().map(|port| port.host_port);
}

fn add_volume(found: &mut BTreeMap<String, Observed>, line: VolumeLine) {
    let labels = line.labels.unwrap_or_default();
    let Some(observed) = entry(found, &labels) else { return };
    let volume = Volume::ALL.into_iter().find(|volume| volume.of(&observed.builder) == line.name);
    observed.volumes.extend(volume);
}

/// Why it last stopped: the file lies on the store volume, which root alone may read; podman may copy it out of
/// the stopped container. Where somebody has removed that, a container that is made for it reads the volume.
pub(super) async fn last_stop(ui: Ui, observed: &Observed, image: &str) -> Result<Option<LastStop>> {
    if observed.containers.is_empty() {
        if !observed.has_store() {
            return Ok(None);
        }
        let path = format!("{MARK_DIR}/{}", file::LAST_STOP);
        // Whatever keeps it from being read, such as an image that is gone, is no reason to say nothing else of the builder.
        let kept = exec::kept(ui, &observed.builder, image, Volume::Store, &path).await.ok().flatten();
        return Ok(kept.and_then(|text| serde_json::from_slice(&text).ok()));
    }
    let path = format!("{VOLUME}/{MARK_DIR}/{}", file::LAST_STOP);
    let from = format!("{}:{path}", container_name(&observed.builder, Container::Daemon));
    let output = command::output(ui, &["cp", &from, "-"], None).await?;
    // A builder that never stopped has no such file. What comes is a tar archive of one file: a block of header,
    // then the JSON, then zeros.
    if output.code != 0 {
        return Ok(None);
    }
    let text = output.stdout.get(512..).unwrap_or_default();
    Ok(serde_json::Deserializer::from_slice(text).into_iter().next().and_then(std::result::Result::ok))
}
