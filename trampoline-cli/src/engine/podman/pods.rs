//! Making, stopping and removing a builder's pod and volumes.

use std::time::{Duration, SystemTime};

use contract::places::Container;
use tokio::task::JoinSet;

use super::{Podman, command, container_name, observe};
use crate::engine::{Belonging, ContainerState, Engine, Observed, Volume, pod_name};
use crate::error::{CliError, Result};
use crate::render::{Rendering, VolumeSpec};
use crate::ui::Ui;

/// Where a volume is while it is written by a copy into a container.
const IMPORT_AT: &str = "/trampoline/import";

/// For the infra container to follow the last of the others.
const INFRA: Duration = Duration::from_secs(15);

/// What podman says of a pod whose infra container is ending: to whoever would join it, and to whoever would start it.
const ON_ITS_WAY_OUT: [&str; 2] = ["cannot get namespace path", "tarting some container dependencies"];

/// What podman says of a pod whose infra container has gone meanwhile.
const NO_INFRA: &str = "no infra container";

/// Volumes first: `kube play` of podman 4.3 refuses an existing volume in a manifest, and would let podman copy the
/// image's `/nix` into an empty one.
pub(super) async fn apply(podman: &Podman, rendering: &Rendering, ui: Ui) -> Result<()> {
    // As listed when the builder was looked at, under the same lock.
    let existing = match podman.volumes.lock().await.take() {
        Some(existing) => existing,
        None => observe::volumes(podman.ui).await?,
    };
    let mut making = JoinSet::new();
    for volume in &rendering.volumes {
        match existing.get(&volume.name) {
            None => {
                ui.detail(format!("making volume {}", volume.name));
                making.spawn(make_volume(podman.ui, arguments(rendering, volume)));
            }
            Some(owner) if owner.as_ref() == Some(&rendering.builder) => {}
            Some(_) => return Err(not_ours(volume)),
        }
    }
    while let Some(made) = making.join_next().await {
        made.map_err(|error| CliError::engine(format!("making a volume was cut off: {error}")))??;
    }
    write_config(podman, rendering).await?;
    let manifest = rendering.manifest()?;
    let args = ["kube", "play", "-"];
    let mut output = command::output(podman.ui, &args, Some(manifest.as_bytes())).await?;
    if output.code != 0 && String::from_utf8_lossy(&output.stderr).contains("already exists") {
        // A pod without containers, of a start that was cut off: nobody sees it in a list of containers.
        podman.delete_pod(&rendering.builder).await?;
        output = command::output(podman.ui, &args, Some(manifest.as_bytes())).await?;
    }
    if output.code == 0 { Ok(()) } else { Err(command::failure(&args, &output)) }
}

fn not_ours(volume: &VolumeSpec) -> CliError {
    CliError::new(
        contract::exit::Exit::InUse,
        format!("there is a volume {} that trampoline-cli did not make for this builder", volume.name),
    )
    .hint("choose another name with --name, or remove that volume yourself if nothing in it is needed")
}

/// Of `podman volume create`.
fn arguments(rendering: &Rendering, volume: &VolumeSpec) -> Vec<String> {
    let mut args = vec!["volume".to_owned(), "create".to_owned()];
    for (key, value) in &rendering.labels {
        args.extend(["--label".to_owned(), format!("{key}={value}")]);
    }
    for option in &volume.options {
        args.extend(["--opt".to_owned(), option.clone()]);
    }
    args.push(volume.name.clone());
    args
}

async fn make_volume(ui: Ui, args: Vec<String>) -> Result<()> {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    command::run(ui, &args, None).await.map(drop)
}

/// An archive of the files, unpacked by podman into the volume: works rootless, and agents see the change.
pub(super) async fn write_config(podman: &Podman, rendering: &Rendering) -> Result<()> {
    let archive = crate::render::archive(&rendering.files)?;
    let volume = Volume::Config.of(&rendering.builder);
    if command::is_remote() {
        return import_by_copy(podman, &volume, &rendering.image, &archive).await;
    }
    command::run(podman.ui, &["volume", "import", &volume, "-"], Some(&archive)).await.map(drop)
}

/// A podman on another machine imports no volumes (before 5.6), but copies into a container, which need not run.
async fn import_by_copy(podman: &Podman, volume: &str, image: &str, archive: &[u8]) -> Result<()> {
    let mount = format!("{volume}:{IMPORT_AT}");
    let create = ["create", "--pull", "never", "--network", "none", "--volume", &mount, image, "true"];
    let container = podman.run(&create).await?;
    let container = String::from_utf8_lossy(&container).trim().to_owned();
    let copied =
        command::run(podman.ui, &["cp", "-", &format!("{container}:{IMPORT_AT}")], Some(archive)).await;
    let removed = podman.run(&["rm", "--force", "--time", "0", &container]).await;
    copied.and(removed).map(drop)
}

/// Brings up the containers of a pod that is there. One that the agents left a moment ago may yet have its infra container, which is
/// on its way out: who joins it then finds it gone, or gets a pod whose port podman takes down after it has come up. Such a one is
/// ended whole, and started again.
pub(super) async fn start(podman: &Podman, builder: &str) -> Result<()> {
    match start_containers(podman, builder).await {
        Err(error) if ON_ITS_WAY_OUT.iter().any(|words| error.message.contains(words)) => {
            podman.run(&["pod", "stop", &pod_name(builder)]).await?;
            start_containers(podman, builder).await
        }
        started => started,
    }
}

/// Two at a time: `podman pod start` starts one container after another. Either brings up the infra container first, for which
/// the other waits; builds need only the first pair, so that the second one's time is the other core's.
async fn start_containers(podman: &Podman, builder: &str) -> Result<()> {
    let [daemon, user, maintenance, monitor] =
        Container::ALL.map(|container| container_name(builder, container));
    let serving = ["start", &daemon, &user];
    let beside = ["start", &maintenance, &monitor];
    let (serving, beside) = tokio::join!(podman.run(&serving), podman.run(&beside));
    serving.and(beside).map(drop)
}

/// SIGTERM to every container at once. `podman pod stop` would kill: the infra container is PID 1 of all.
pub(super) async fn stop(podman: &Podman, observed: &Observed) -> Result<()> {
    let names = names(observed, |running| running);
    if names.is_empty() {
        return Ok(());
    }
    let mut args = vec!["kill", "--signal", "TERM"];
    args.extend(names.iter().map(String::as_str));
    let output = command::output(podman.ui, &args, None).await?;
    // One that ended by itself in between is no failure.
    let text = String::from_utf8_lossy(&output.stderr);
    let only_ended = text
        .lines()
        .filter(|line| line.contains("rror"))
        .all(|line| line.contains("not running") || line.contains("state improper"));
    if output.code == 0 || only_ended { Ok(()) } else { Err(command::failure(&args, &output)) }
}

/// OnFailure starts a container again that ended by itself just before the signal came, and it would stay for ever. What another
/// client has started again since, on a pod that had ended, is not touched: an infra container outlives all others of its life.
pub(super) async fn stop_revived(
    podman: &Podman,
    told: &Observed,
    asked: SystemTime,
) -> Result<Option<Observed>> {
    let (now, _) = observe::one(podman.ui, &told.builder).await?;
    let heard = |container: &ContainerState| {
        told.containers.iter().any(|known| known.name == container.name && known.pid == container.pid)
    };
    let revived: Vec<_> =
        now.containers.iter().filter(|container| container.running && !heard(container)).cloned().collect();
    if revived.is_empty() {
        return Ok(Some(now));
    }
    if infra_started(podman, &told.builder).await?.is_none_or(|started| started > asked) {
        return Ok(None);
    }
    stop(podman, &Observed { containers: revived, ..told.clone() }).await?;
    Ok(Some(now))
}

/// None where the pod has gone.
async fn infra_started(podman: &Podman, builder: &str) -> Result<Option<SystemTime>> {
    let Some(infra) = infra(podman, builder).await? else { return Ok(None) };
    let args = ["container", "inspect", "--format", "{{.State.StartedAt.UnixMilli}}", &infra];
    let text = podman.run(&args).await?;
    let millis = String::from_utf8_lossy(&text).trim().parse().map_err(|_| {
        CliError::engine(format!(
            "podman does not tell when {infra} was started: {:?}",
            String::from_utf8_lossy(&text)
        ))
    })?;
    Ok(Some(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)))
}

/// The pod's infra container; none where there is no pod.
async fn infra(podman: &Podman, builder: &str) -> Result<Option<String>> {
    let args = ["pod", "inspect", "--format", "{{.InfraContainerID}}", &pod_name(builder)];
    let output = command::output(podman.ui, &args, None).await?;
    let name = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(Some(name).filter(|name| output.code == 0 && !name.is_empty()))
}

/// podman tells when each has ended.
pub(super) async fn stopped(podman: &Podman, observed: &Observed) -> Result<()> {
    let names = names(observed, |_| true);
    let mut args = vec!["wait"];
    args.extend(names.iter().map(String::as_str));
    loop {
        podman.run(&args).await?;
        if infra_ended(podman, &observed.builder).await? {
            return Ok(());
        }
    }
}

/// The pod's infra container follows the last of the others by itself: a process of podman's ends it. Where that has come to nothing,
/// which happens on a busy machine, it would stay for ever, and is ended here. False where one of the others runs again.
async fn infra_ended(podman: &Podman, builder: &str) -> Result<bool> {
    let pod = pod_name(builder);
    // Gone already if somebody removed the pod meanwhile.
    let Some(infra) = infra(podman, builder).await? else { return Ok(true) };
    let wait = ["wait", &infra];
    if let Ok(ended) = tokio::time::timeout(INFRA, command::output(podman.ui, &wait, None)).await {
        return ended.map(|_| true);
    }
    let (now, _) = observe::one(podman.ui, builder).await?;
    if now.containers.iter().any(|container| container.running) {
        return Ok(false);
    }
    podman.run(&["pod", "stop", &pod]).await.map(|_| true)
}

fn names(observed: &Observed, wanted: impl Fn(bool) -> bool) -> Vec<String> {
    Container::ALL
        .into_iter()
        .filter(|known| observed.containers.iter().any(|c| c.name == known.name() && wanted(c.running)))
        .map(|known| container_name(&observed.builder, known))
        .collect()
}

/// With all of its containers. The cleanup of the last one ends the infra container by itself; where podman's removal meets it, that
/// ends with an error, and leaves a pod without containers, to be removed once more.
pub(super) async fn delete(podman: &Podman, builder: &str) -> Result<()> {
    let pod = pod_name(builder);
    let args = ["pod", "rm", "--force", "--ignore", "--time", "0", &pod];
    match podman.run(&args).await {
        Err(error) if error.message.contains(NO_INFRA) => podman.run(&args).await,
        removed => removed,
    }
    .map(drop)
}

/// Its pod, where that has no container but the infra container, as a start or a removal leaves it that was cut off: no list of containers
/// shows that it is the builder's.
pub(super) async fn bare(podman: &Podman, builder: &str) -> Result<Vec<Belonging>> {
    let format = "{{.Name}} {{.NumberOfContainers}}";
    let args = ["pod", "ps", "--filter", &observe::labelled(builder), "--format", format];
    let listed = command::listed(podman.ui, &args).await?;
    let pods = String::from_utf8_lossy(&listed).into_owned();
    let bare = pods
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(_, containers)| matches!(*containers, "0" | "1"));
    let what = |(name, _)| Belonging { what: format!("pod {name}, which has no containers"), data: false };
    Ok(bare.map(what).collect())
}

/// Only those that carry the builder's label.
pub(super) async fn delete_volumes(podman: &Podman, builder: &str, volumes: &[Volume]) -> Result<()> {
    let filter = observe::labelled(builder);
    let listed = command::listed(podman.ui, &["volume", "ls", "--quiet", "--filter", &filter]).await?;
    let listed = String::from_utf8_lossy(&listed).into_owned();
    let ours: Vec<&str> =
        listed.lines().filter(|name| volumes.iter().any(|volume| volume.of(builder) == *name)).collect();
    if ours.is_empty() {
        return Ok(());
    }
    podman.run(&[&["volume", "rm", "--force"][..], &ours].concat()).await.map(drop)
}
