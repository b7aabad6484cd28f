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
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};

use super::client::Cluster;
use super::observe::Seen;
use crate::engine::{Trouble, pod_name};
use crate::error::{CliError, Result};

pub(super) use policy::{cause as policy_cause, hint as policy_hint};
pub(super) use schedule::tolerated;

/// Lines of a log that go into a message.
const LAST_WORDS: i64 = 8;
/// Clocks of client and cluster differ.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);
/// A kubelet says every ten seconds that it is there (`nodeStatusUpdateFrequency`); once it is heard, its pods follow on one of its next words.
const HEARD_AGAIN: SignedDuration = SignedDuration::from_secs(45);

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
    /// Its node does not answer; `lately`: it may yet.
    Silent {
        message: String,
        hint: String,
        lately: bool,
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
    // No API server keeps events in memory: each list reads all of a namespace.
    let facts = if closely || seen.out_of_reach() {
        facts(cluster, seen).await?
    } else {
        Facts { now: Timestamp::now(), ..Facts::default() }
    };
    Ok(match judge::judge(seen, &facts) {
        Verdict::None => Trouble::None,
        Verdict::Waiting(line) => Trouble::Waiting(line),
        Verdict::Fatal { exit, message, hint } => Trouble::Fatal(CliError::new(exit, message).hint(hint)),
        Verdict::Silent { message, hint, lately } => {
            let error = CliError::engine(message).hint(hint);
            if lately { Trouble::Silent(error) } else { Trouble::Fatal(error) }
        }
        Verdict::Crashes { container, exit_code, reason, again } => {
            let ended = Ended { container: &container, exit_code, reason: reason.as_deref(), again };
            Trouble::Fatal(crash(cluster, seen, &ended).await)
        }
        Verdict::Prepares => prepare::told(cluster, &seen.builder).await,
    })
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

/// A node that cannot be relied on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) why: String,
    /// The cluster noticed then.
    since: Option<Timestamp>,
}

impl Silence {
    /// Of a node that says that it is not ready, or says nothing; none: it is ready.
    pub(super) fn of(node: &Node) -> Option<Self> {
        let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref())?;
        let ready = conditions.iter().find(|condition| condition.type_ == "Ready")?;
        if ready.status == "True" {
            return None;
        }
        let message = ready.message.as_deref().unwrap_or_default().trim_end_matches('.');
        let message = if message.is_empty() { "not ready" } else { message };
        let since = ready.last_transition_time.as_ref().map(|time| time.0);
        let why = since.map_or_else(|| message.to_owned(), |since| format!("{message}, since {since}"));
        Some(Self { why, since })
    }

    /// What became of its pod, for who may not read nodes.
    fn seen_in(pod: &Pod) -> Self {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_deref());
        let ready = conditions.unwrap_or_default().iter().find(|condition| condition.type_ == "Ready");
        Self {
            why: "its pod is not ready, though all its containers were".to_owned(),
            since: ready.and_then(|ready| Some(ready.last_transition_time.as_ref()?.0)),
        }
    }

    /// Whether it may be over soon. Where the API server was away, all of its nodes have been silent.
    pub(super) fn is_new(&self, now: Timestamp) -> bool {
        self.since.is_some_and(|since| {
            let age = now.duration_since(since);
            // A time to come is of a clock that says nothing.
            age >= -CLOCKS && age < HEARD_AGAIN
        })
    }
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
