//! Why a builder does not run: what the cluster knows, in one line, and what to do.

mod containers;
mod judge;
mod making;
mod policy;
mod prepare;
mod schedule;
#[cfg(test)]
mod tests;

use contract::exit::Exit;
use contract::places::Container;
use k8s_openapi::api::core::v1::{Event, Node, Pod};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use super::client::Cluster;
use super::observe::Seen;
use super::target::Target;
use crate::engine::{Trouble, pod_name};
use crate::error::{CliError, Result};

pub(super) use policy::{cause as policy_cause, hint as policy_hint};
pub(super) use schedule::tolerated;

/// Lines of a log that go into a message.
const LAST_WORDS: i64 = 8;

/// What else is known of a builder that does not run.
#[derive(Default)]
struct Facts {
    now: Timestamp,
    events: Vec<Event>,
    /// Of the pod; none where we may not read nodes.
    node: Option<Node>,
    /// All of them, of a pod that has none; empty where we may not read nodes.
    nodes: Vec<Node>,
}

/// What the facts come to.
#[derive(Debug)]
enum Verdict {
    None,
    Waiting(String),
    Fatal {
        exit: Exit,
        message: String,
        hint: String,
    },
    /// The cluster has not heard of its node.
    Silent {
        message: String,
        hint: String,
    },
    /// A container ends again and again; its log says why.
    Crashes {
        container: String,
        exit_code: i32,
        reason: Option<String>,
        /// Not for the first time.
        again: bool,
    },
    /// The first container is at work, and tells how far it is.
    Prepares,
}

/// Looks once; unless `closely`, at the builder's own objects alone.
pub(super) async fn trouble(cluster: &Cluster, seen: &Seen, closely: bool) -> Result<Trouble> {
    if seen.serves() {
        return Ok(Trouble::None);
    }
    Ok(match verdict(cluster, seen, closely || seen.out_of_reach()).await? {
        Verdict::None => Trouble::None,
        Verdict::Waiting(line) => Trouble::Waiting(line),
        Verdict::Fatal { exit, message, hint } => Trouble::Fatal(CliError::new(exit, message).hint(hint)),
        Verdict::Silent { message, hint } => {
            if Target::new(&seen.builder, Container::User).answers(cluster).await {
                Trouble::None
            } else {
                Trouble::Fatal(CliError::engine(message).hint(hint))
            }
        }
        Verdict::Crashes { container, exit_code, reason, again } => {
            let ended = Ended { container: &container, exit_code, reason: reason.as_deref(), again };
            Trouble::Fatal(crash(cluster, seen, &ended).await)
        }
        Verdict::Prepares => prepare::told(cluster, &seen.builder).await,
    })
}

async fn verdict(cluster: &Cluster, seen: &Seen, closely: bool) -> Result<Verdict> {
    // No API server keeps events in memory: each list reads all of a namespace.
    if !closely {
        let facts = Facts { now: Timestamp::now(), ..Facts::default() };
        let verdict = judge::judge(seen, &facts);
        // What ends a start is told with all that can be known of it.
        if !matches!(verdict, Verdict::Fatal { .. }) {
            return Ok(verdict);
        }
    }
    let facts = facts(cluster, seen).await?;
    Ok(judge::judge(seen, &facts))
}

async fn facts(cluster: &Cluster, seen: &Seen) -> Result<Facts> {
    let mut names = vec![pod_name(&seen.builder), super::pod_of(&seen.builder)];
    names.extend(seen.claims.iter().filter(|claim| !schedule::is_bound(claim)).map(ResourceExt::name_any));
    let events = cluster.api::<Event>();
    let lists = names.iter().map(|name| {
        let params = ListParams::default().fields(&format!("involvedObject.name={name}"));
        let events = &events;
        async move { cluster.attempt(|| events.list(&params)).await }
    });
    let (lists, node, nodes) =
        tokio::join!(futures_util::future::join_all(lists), node(cluster, seen), nodes(cluster, seen));
    // Who may not list events is told less, not nothing.
    let events = lists.into_iter().flatten().flat_map(|list| list.items).collect();
    Ok(Facts { now: Timestamp::now(), events, node, nodes })
}

/// Those that the scheduler had to choose from: it counts their taints, and does not name them.
async fn nodes(cluster: &Cluster, seen: &Seen) -> Vec<Node> {
    let Some(pod) = &seen.pod else { return Vec::new() };
    if !schedule::names_taints(pod) {
        return Vec::new();
    }
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let all = ListParams::default();
    cluster.attempt(|| nodes.list(&all)).await.map(|list| list.items).unwrap_or_default()
}

/// The pod's node. Nodes are the whole cluster's: not everybody may read them.
async fn node(cluster: &Cluster, seen: &Seen) -> Option<Node> {
    let name = seen.pod.as_ref()?.spec.as_ref()?.node_name.clone()?;
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    cluster.attempt(|| nodes.get(&name)).await.ok()
}

/// A container that does not run any more.
struct Ended<'a> {
    container: &'a str,
    exit_code: i32,
    reason: Option<&'a str>,
    again: bool,
}

async fn crash(cluster: &Cluster, seen: &Seen, ended: &Ended<'_>) -> CliError {
    let Ended { container, exit_code, reason, again } = *ended;
    let pods = cluster.api::<Pod>();
    let pod = super::pod_of(&seen.builder);
    let params = |previous| LogParams {
        container: Some(container.to_owned()),
        previous,
        tail_lines: Some(LAST_WORDS),
        ..LogParams::default()
    };
    let mut words = String::new();
    for previous in [true, false] {
        let params = params(previous);
        words = cluster.attempt(|| pods.logs(&pod, &params)).await.unwrap_or_default();
        // What a kubelet says, as if it were the log, of a container that it has removed.
        if words.starts_with("unable to retrieve container logs") {
            words.clear();
        }
        if !words.trim().is_empty() {
            break;
        }
    }
    let words = if words.trim().is_empty() { "it wrote nothing" } else { words.trim_end() };
    let why = match reason {
        Some("OOMKilled") => "was killed for using more memory than its limit".to_owned(),
        _ if again => format!("ends again and again (exit code {exit_code})"),
        _ => format!("ended with exit code {exit_code}"),
    };
    let shown = Container::ALL.iter().any(|known| known.name() == container);
    let error = CliError::new(
        Exit::from_code(exit_code).filter(|exit| *exit != Exit::Ok).unwrap_or(Exit::ChildFailed),
        format!("the {container} container of builder {} {why}; its last words:\n{words}", seen.builder),
    );
    match (reason, shown) {
        (Some("OOMKilled"), _) => {
            error.hint(format!("raise `memory` under [builder.{container}], then `trampoline-cli setup`"))
        }
        (_, true) => error.hint(format!("`trampoline-cli logs {container}` shows its whole log")),
        (_, false) => error.hint(format!(
            "`kubectl -n {} logs {pod} -c {container} --previous` shows its whole log",
            cluster.namespace
        )),
    }
}

/// Why a node cannot be relied on; none: it is ready.
pub(super) fn not_ready(node: &Node) -> Option<String> {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref())?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
    (ready.status != "True").then(|| {
        let message = ready.message.clone().unwrap_or_default();
        let since = ready.last_transition_time.as_ref().map(|time| time.0.to_string());
        let since = since.map_or_else(String::new, |since| format!(", since {since}"));
        format!(
            "{}{since}",
            if message.is_empty() {
                "not ready".to_owned()
            } else {
                message.trim_end_matches('.').to_owned()
            }
        )
    })
}

/// A pod on such a node neither serves nor ends.
pub(super) fn lost(cluster: &Cluster, node: &str, why: &str, pod: &str) -> CliError {
    CliError::engine(format!("node {node}, where pod {pod} is, does not answer ({why})")).hint(lost_hint(
        &cluster.namespace,
        node,
        pod,
    ))
}

fn lost_hint(namespace: &str, node: &str, pod: &str) -> String {
    format!(
        "bring the node back, and the builder goes on as it was. Only if it is off for certain: `kubectl -n {namespace} delete pod {pod} \
         --force` lets another node take over; while {node} still runs, two machines would write to one store"
    )
}
