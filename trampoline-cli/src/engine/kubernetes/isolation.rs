//! `isolation = "auto"`: what fits the nodes and the policies of a cluster, and stays what it is as long as it fits.

mod admission;
mod nodes;
#[cfg(test)]
mod tests;

use contract::config::IsolationChoice;
use contract::exit::Exit;
use contract::handshake::Isolation;
use k8s_openapi::api::core::v1::{Node, PodSpec};
use k8s_openapi::api::node::v1::RuntimeClass;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::client::{Cluster, Failed};
use super::{explain, failure};
use crate::engine::{Isolated, Observed, PodPhase};
use crate::error::{CliError, Result};
use crate::render::{self, Rendering, Sources};

use admission::Admission;

/// Names of nodes that a line has room for.
const SHOWN: usize = 3;

/// What is known of the nodes that the pod may run on.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Nodes {
    /// They may not be listed.
    Hidden,
    /// By name; why one cannot map users.
    Seen(Vec<(String, Option<String>)>),
}

/// Without a cluster to ask.
pub(super) fn unasked() -> Isolated {
    Isolated::because(
        Isolation::Userns,
        "no cluster was asked; `trampoline-cli setup` looks at the nodes and policies of one",
    )
}

/// What trampoline.toml decides.
pub(super) fn wished(choice: IsolationChoice) -> Option<Isolated> {
    let isolation = match choice {
        IsolationChoice::Auto => return None,
        IsolationChoice::Userns => Isolation::Userns,
        IsolationChoice::Privileged => Isolation::Privileged,
    };
    Some(Isolated { isolation, why: None })
}

/// Of a builder that runs, and whose pod would be the same again: nobody need be asked.
pub(super) fn kept(sources: &Sources<'_>, observed: &Observed) -> Result<Option<Isolated>> {
    let Some(had) = observed.isolation.filter(|_| observed.phase() == PodPhase::Running) else {
        return Ok(None);
    };
    let same = observed.digest == Some(rendered(sources, had)?.digest);
    Ok(same.then(|| Isolated::because(had, "the builder runs so, and its pod stays what it is")))
}

/// Asks the cluster.
pub(super) async fn choose(
    cluster: &Cluster,
    sources: &Sources<'_>,
    observed: &Observed,
) -> Result<Isolated> {
    let account = sources.config.kubernetes.service_account.as_deref();
    let userns = rendered(sources, Isolation::Userns)?;
    let spec = userns.pod.spec.clone().unwrap_or_default();
    let (nodes, admitted) = tokio::join!(nodes(cluster, &spec), admission::of(cluster, &userns.pod, account));
    let fits = fits(observed.isolation, &nodes?, &admitted?);
    if let (Ok(why), None | Some(Isolation::Userns)) = (&fits, observed.isolation) {
        return Ok(Isolated::because(Isolation::Userns, why));
    }
    // Nobody is asked for privilege where none is needed: policies may note who asks.
    let privileged = rendered(sources, Isolation::Privileged)?;
    let admitted = admission::of(cluster, &privileged.pod, account).await?;
    otherwise(sources.builder, observed.isolation, fits, &admitted)
}

fn rendered(sources: &Sources<'_>, isolation: Isolation) -> Result<Rendering> {
    render::kubernetes::render(&Sources { isolation, ..*sources }, None)
}

/// Why a pod in a user namespace would run; an error says why not.
fn fits(had: Option<Isolation>, nodes: &Nodes, admitted: &Admission) -> std::result::Result<String, Unfit> {
    if let Admission::Refused(cause) = admitted {
        return Err(Unfit::Policy(cause.clone()));
    }
    let seen = match nodes {
        Nodes::Seen(seen) if !seen.is_empty() => seen,
        unknown => {
            let why_not = if *unknown == Nodes::Hidden { "may not be listed" } else { "are not there yet" };
            return Ok(match admitted {
                Admission::Unknown(cause) => format!(
                    "its nodes {why_not}, and whether its pod is admitted cannot be asked ({cause}); should it not start, \
                     `isolation = \"privileged\"` under [daemon] is the other way"
                ),
                _ => format!("the cluster admits its pod, and its nodes {why_not}"),
            });
        }
    };
    let lacking: Vec<(&str, &str)> =
        seen.iter().filter_map(|(name, lack)| Some((name.as_str(), lack.as_deref()?))).collect();
    let able: Vec<&str> =
        seen.iter().filter(|(_, lack)| lack.is_none()).map(|(name, _)| name.as_str()).collect();
    let lack = || shown(&lacking.iter().map(|(name, lack)| format!("{name}: {lack}")).collect::<Vec<_>>());
    match (lacking.is_empty(), able.is_empty(), had) {
        (true, ..) => Ok(format!("its nodes map users ({})", shown(&able))),
        (false, false, Some(Isolation::Userns)) => Ok(format!(
            "it is so already, and {} can map users, while others cannot ({})",
            shown(&able),
            lack()
        )),
        _ => Err(Unfit::Nodes { able: able.into_iter().map(str::to_owned).collect(), lack: lack() }),
    }
}

/// Why no pod in a user namespace would run.
#[derive(Debug)]
enum Unfit {
    /// In the cluster's words.
    Policy(String),
    /// Some node cannot map users; those that can, and what the others lack.
    Nodes { able: Vec<String>, lack: String },
}

impl std::fmt::Display for Unfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Policy(cause) => {
                write!(f, "the cluster does not admit the pod of a user namespace ({cause})")
            }
            Self::Nodes { lack, .. } => write!(f, "not all nodes that it may run on map users ({lack})"),
        }
    }
}

fn shown(all: &[impl AsRef<str>]) -> String {
    let names: Vec<&str> = all.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = all.len().saturating_sub(SHOWN);
    let end = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{end}", names.join(", "))
}

/// A user namespace does not fit, or is not what the builder has.
fn otherwise(
    builder: &str,
    had: Option<Isolation>,
    fits: std::result::Result<String, Unfit>,
    admitted: &Admission,
) -> Result<Isolated> {
    match (admitted, fits) {
        (Admission::Refused(cause), Ok(why)) => Ok(Isolated::because(
            Isolation::Userns,
            &format!("{why}, and the cluster admits no privileged pod any more ({cause})"),
        )),
        (Admission::Refused(_), Err(Unfit::Policy(cause))) => {
            let error =
                CliError::engine(format!("the cluster does not admit the pod of builder {builder}: {cause}"));
            Err(match explain::policy_hint(&cause) {
                Some(hint) => error.hint(hint),
                None => error.hint(
                    "a policy of the cluster refuses it: change what it names, then `trampoline-cli setup`",
                ),
            })
        }
        (Admission::Refused(cause), Err(Unfit::Nodes { able, lack })) => {
            Err(no_place(builder, &able, &lack, cause))
        }
        (_, Ok(_)) => Ok(Isolated::because(
            Isolation::Privileged,
            "the builder has been so; `isolation = \"userns\"` under [daemon] works here, too, and needs no privilege",
        )),
        (_, Err(unfit)) if had == Some(Isolation::Userns) => {
            Ok(Isolated::because(Isolation::Privileged, &format!("it cannot stay userns: {unfit}")))
        }
        (_, Err(unfit)) => Ok(Isolated::because(Isolation::Privileged, &unfit.to_string())),
    }
}

/// Nodes want privilege, and policies refuse it.
fn no_place(builder: &str, able: &[String], lack: &str, cause: &str) -> CliError {
    let message = format!(
        "builder {builder} has no place: not all nodes that it may run on map users ({lack}), and the cluster admits no \
         privileged pod ({cause})"
    );
    let error = CliError::new(Exit::Unsupported, message);
    error.hint(if able.is_empty() {
        "the cluster's administrator can help: nodes with Kubernetes 1.33, containerd 2.0 or CRI-O 1.25, runc 1.2 or crun 1.9, \
         and Linux 6.3, each or newer, map users; or a namespace with `pod-security.kubernetes.io/enforce=privileged` \
         (--namespace)"
            .to_owned()
    } else {
        format!(
            "`node-selector` under [kubernetes] keeps it on nodes that do ({}); or say `isolation = \"userns\"` under [daemon]",
            shown(able)
        )
    })
}

/// Those that the pod may run on. Nodes are the whole cluster's: not everybody may list them.
async fn nodes(cluster: &Cluster, pod: &PodSpec) -> Result<Nodes> {
    let api: Api<Node> = Api::all(cluster.client.clone());
    let all = ListParams::default();
    let (listed, class) =
        tokio::join!(cluster.attempt(|| api.list(&all)), class(cluster, pod.runtime_class_name.as_deref()));
    let pod = nodes::placed(pod, &class);
    let handler = class.handler;
    match listed {
        Ok(list) => {
            let eligible = list.items.iter().filter(|node| nodes::eligible(node, &pod));
            Ok(Nodes::Seen(eligible.map(|node| (node.name_any(), nodes::lacks(node, &handler))).collect()))
        }
        Err(Failed::Error(kube::Error::Api(status))) if failure::is_denied(&status) => Ok(Nodes::Hidden),
        Err(failed) => Err(failure::explain(cluster, "cannot list nodes", failed)),
    }
}

/// What nodes call a runtime class, and where it lets pods run. Classes are the whole cluster's, too; most are called as their
/// handler, and leave nodes out of it.
async fn class(cluster: &Cluster, name: Option<&str>) -> RuntimeClass {
    let Some(name) = name else { return RuntimeClass::default() };
    let classes: Api<RuntimeClass> = Api::all(cluster.client.clone());
    let found = cluster.attempt(|| classes.get(name)).await;
    found.unwrap_or_else(|_| RuntimeClass { handler: name.to_owned(), ..RuntimeClass::default() })
}
