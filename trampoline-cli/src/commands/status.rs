//! `status`: how a builder is. Never wakes it, never counts as activity.

mod configured;

use clap::Args;
use contract::handshake::{BuilderStatus, Isolation, LastStop, Phase};
use contract::places::Container;

use crate::context::Context;
use crate::engine::{Observed, PodPhase, Published, Trouble};
use crate::error::Result;
use crate::global::Global;
use crate::ui::{ago, bytes, now};
use crate::wake;

/// Show how the builder is
///
/// Never starts it, and does not count as activity.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli status
  trampoline-cli status --json | jq -r .state      absent, starting, running, stopping, stopped or failed")]
pub(crate) struct Status {}

/// What `--json` prints.
#[derive(serde::Serialize)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) owner: Option<String>,
    pub(crate) image: Option<String>,
    /// In a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) namespace: Option<String>,
    /// In a cluster, of a builder that has a pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) node: Option<String>,
    /// In a cluster: its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server: Option<String>,
    pub(crate) ssh_port: Option<u16>,
    /// What keeps its builds apart from the machine.
    pub(crate) isolation: Option<Isolation>,
    /// Why it does not run.
    pub(crate) reason: Option<String>,
    pub(crate) last_stop: Option<LastStop>,
    /// What is under way besides, or stands against something.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) pending: Vec<String>,
    /// Which trampoline.toml it runs with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<configured::Configured>,
    /// What the pod publishes.
    pub(crate) pod: Option<BuilderStatus>,
}

impl Status {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let observed = context.engine.look(&context.name).await?;
        let report = report(&context, &observed).await?;
        if context.ui.json {
            context.ui.object(&report)?;
        } else {
            print(&context, &report)?;
        }
        Ok(0)
    }
}

/// Asks the pod where nobody else knows.
pub(crate) async fn report(context: &Context, observed: &Observed) -> Result<Report> {
    let phase = observed.phase();
    let pod = match phase {
        PodPhase::Running | PodPhase::Stopping => match &observed.published {
            Published::InPod => wake::status(context).await.unwrap_or(None),
            Published::Read(status) => status.as_deref().cloned(),
            Published::Silent => None,
        },
        _ => None,
    };
    let last_stop = match phase {
        PodPhase::Stopped | PodPhase::Absent => {
            context.engine.last_stop(observed, context.image_of(observed)).await?
        }
        _ => None,
    };
    let (mut state, mut reason) = judge(observed, pod.as_ref(), last_stop.as_ref());
    if phase == PodPhase::Absent {
        reason = reason.map(|reason| format!("{reason} ({})", context.engine.how_pods_go()));
    }
    if phase == PodPhase::Starting {
        match context.engine.trouble(&context.name, true).await? {
            Trouble::None => {}
            Trouble::Waiting(line) => reason = reason.or(Some(line)),
            Trouble::Fatal(error) => (state, reason) = ("failed", Some(error.message)),
        }
    }
    Ok(Report {
        name: observed.builder.clone(),
        state,
        owner: observed.owner.clone(),
        image: observed.image.clone(),
        namespace: observed.place.as_ref().map(|place| place.namespace.clone()),
        node: observed.place.as_ref().and_then(|place| place.node.clone()),
        server: observed.place.as_ref().and_then(|place| place.server.clone()),
        ssh_port: observed.ssh_port,
        // The pod knows best.
        isolation: pod.as_ref().and_then(|pod| pod.ready.as_ref()?.isolation).or(observed.isolation),
        reason,
        last_stop,
        pending: observed.pending.clone(),
        config: pod.as_ref().and_then(|pod| configured::of(context, pod)),
        pod,
    })
}

/// One word, and why.
pub(crate) fn judge(
    observed: &Observed,
    pod: Option<&BuilderStatus>,
    last_stop: Option<&LastStop>,
) -> (&'static str, Option<String>) {
    let failed_agent = pod.and_then(|pod| pod.agents.iter().find(|agent| agent.phase == Phase::Failed));
    match observed.phase() {
        PodPhase::Absent if !observed.has_store() => ("absent", None),
        PodPhase::Absent => {
            let gone = "its pod is gone; the next command makes it again";
            ("stopped", Some(last_stop.map_or(gone.to_owned(), |stop| format!("{}; {gone}", stop.reason))))
        }
        PodPhase::Broken => {
            ("failed", Some("its pod was made, but did not start: `trampoline-cli setup`".to_owned()))
        }
        PodPhase::Stopped => match observed.failed() {
            Some(container) => (
                "failed",
                Some(format!(
                    "the {} container ended with exit code {}",
                    container.name, container.exit_code
                )),
            ),
            None => ("stopped", last_stop.map(|stop| stop.reason.clone())),
        },
        PodPhase::Stopping => match observed.killed() {
            Some(killed) => (
                "failed",
                Some(format!("the {} container was killed; the next command starts it again", killed.name)),
            ),
            None => ("stopping", None),
        },
        PodPhase::Starting => ("starting", None),
        PodPhase::Running => match (failed_agent, pod) {
            (Some(agent), _) => ("failed", Some(format!("{}: {}", agent.agent, agent.message))),
            (None, Some(pod)) if pod.drain.is_some() => ("stopping", None),
            (None, Some(pod)) if pod.ready.is_some() => ("running", None),
            (None, None) if matches!(observed.published, Published::Silent) => (
                "running",
                Some("as the cluster sees it: its shutdown monitor has written nothing; `logs shutdown-monitor` says why".to_owned()),
            ),
            _ => ("starting", None),
        },
    }
}

fn print(context: &Context, report: &Report) -> Result<()> {
    let ui = context.ui;
    let row = |key: &str, value: String| ui.data(format!("{key:<13} {value}"));
    row("builder", report.name.clone())?;
    let because = report.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    row("state", format!("{}{because}", report.state))?;
    if let Some(owner) = &report.owner {
        row("owner", owner.clone())?;
    }
    if let Some(image) = &report.image {
        row("image", image.clone())?;
    }
    if let Some(namespace) = &report.namespace {
        row("namespace", namespace.clone())?;
    }
    if let Some(node) = &report.node {
        row("node", node.clone())?;
    }
    if let Some(server) = &report.server {
        row("cluster", server.clone())?;
    }
    for pending in &report.pending {
        row("pending", pending.clone())?;
    }
    if let Some(isolation) = report.isolation {
        row("isolation", isolation.name().to_owned())?;
    }
    if let Some(config) = &report.config {
        row("config", config.to_string())?;
    }
    if let Some(stop) = &report.last_stop {
        if stop.at > 0 {
            row("stopped", ago(stop.at, now()))?;
        }
        if stop.fs_bytes > 0 {
            row("disk", format!("{} free of {}", bytes(stop.fs_free_bytes), bytes(stop.fs_bytes)))?;
        }
    }
    match &report.pod {
        Some(pod) => print_pod(&row, pod)?,
        None if report.state == "absent" => ui.say("`trampoline-cli setup` makes it"),
        None => {}
    }
    Ok(())
}

fn print_pod(row: &impl Fn(&str, String) -> Result<()>, pod: &BuilderStatus) -> Result<()> {
    if let Some(system) = &pod.system {
        row("system", system.clone())?;
    }
    if let Some(ready) = &pod.ready {
        row("nix", ready.nix_version.clone())?;
        row("ready", ago(ready.at, now()))?;
    }
    if let Some(store) = &pod.store {
        row("store", format!("{} in {} paths", bytes(store.nar_bytes), store.paths))?;
        row("disk", format!("{} free of {}", bytes(store.fs_free_bytes), bytes(store.fs_bytes)))?;
        if let Some(short) = &store.short {
            row("too little", short.clone())?;
        }
    }
    for damaged in pod.damage.iter().flat_map(|damage| damage.lately(now())) {
        let when = ago(damaged.at, now());
        row("damaged", format!("{} ({when}: {}; {})", damaged.path, damaged.what, damaged.fate.words()))?;
    }
    if let Some(dir) = &pod.build_dir {
        let limit = if dir.enforced { "" } else { ", which its storage does not enforce" };
        row("build dir", format!("{} of {}{limit}", bytes(dir.used_bytes), bytes(dir.size_bytes)))?;
    }
    if let Some(memory) = &pod.memory
        && let Some(note) = memory.since(0, Container::Daemon)
    {
        row("memory", format!("{}: {note}", ago(memory.last_kill, now())))?;
    }
    if let Some(user) = &pod.user {
        row("jobs", user.jobs.len().to_string())?;
        for job in &user.lost {
            row("interrupted", format!("build {job}, by the builder's end"))?;
        }
        let doing = user.sessions.iter().filter(|session| session.doing.is_some()).count();
        let silent = if user.sessions.is_empty() { String::new() } else { format!(" ({doing} at work)") };
        row("sessions", format!("{}{silent}", user.sessions.len()))?;
    }
    if let Some(daemon) = &pod.daemon {
        row("builds", daemon.builds.to_string())?;
    }
    if let Some(idle) = &pod.idle {
        row("last activity", format!("{} ({})", ago(idle.last_activity, now()), idle.source))?;
        if let Some(at) = idle.stops_at {
            row("stops", ago(at, now()))?;
        }
        for keep in &idle.keeps {
            row(
                "kept up",
                format!("by {}, which ends {} ({})", keep.what, ago(keep.until, now()), keep.note),
            )?;
        }
    }
    if let Some(keys) = &pod.keys {
        row("signs with", keys.own.clone())?;
    }
    if let Some(limit) = pod.pids_limit {
        row("processes", format!("at most {limit}"))?;
    }
    for agent in pod.agents.iter().filter(|agent| agent.phase != Phase::Running) {
        row(&agent.agent, agent.message.clone())?;
    }
    for note in pod.agents.iter().filter_map(|agent| agent.config_note.as_ref().map(|note| (agent, note))) {
        row(&note.0.agent, note.1.clone())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
