//! From objects and events to one verdict. Pure: tests hold it against recorded objects.

use contract::exit::Exit;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{Facts, Verdict, containers, lost_hint, not_ready, policy, schedule};
use crate::engine::kubernetes::{WANTED_AT, observe::Seen};

/// Clocks of client and cluster differ.
const CLOCKS: SignedDuration = SignedDuration::from_secs(5);

/// See the module.
pub(super) fn judge(seen: &Seen, facts: &Facts) -> Verdict {
    let builder = &seen.builder;
    let Some(set) = &seen.set else {
        return Verdict::Fatal {
            exit: Exit::Engine,
            message: format!("the StatefulSet of builder {builder} was removed"),
            hint: "`trampoline-cli setup` makes it again; the store is in its claim".to_owned(),
        };
    };
    if let Some(verdict) = lost_node(seen, facts) {
        return verdict;
    }
    let Some(pod) = &seen.pod else {
        if seen.replicas() == 0 {
            return Verdict::Fatal {
                exit: Exit::Stopping,
                message: format!("builder {builder} was stopped while it started"),
                hint: "`trampoline-cli up` starts it again".to_owned(),
            };
        }
        let since = set.annotations().get(WANTED_AT).and_then(|text| text.parse::<Timestamp>().ok());
        return not_made(builder, facts, &set.uid().unwrap_or_default(), since);
    };
    if pod.metadata.deletion_timestamp.is_some() {
        return Verdict::Waiting("its previous pod is ending".to_owned());
    }
    if let Some(verdict) = schedule::judge(seen, pod, facts) {
        return verdict;
    }
    containers::judge(seen, pod, facts)
}

/// Events of one object, oldest first.
pub(super) fn of<'a>(facts: &'a Facts, uid: &'a str) -> impl DoubleEndedIterator<Item = &'a Event> {
    let mut events: Vec<&Event> =
        facts.events.iter().filter(|event| event.involved_object.uid.as_deref() == Some(uid)).collect();
    events.sort_by_key(|event| at(event));
    events.into_iter()
}

/// When it last happened.
pub(super) fn at(event: &Event) -> Option<Timestamp> {
    let series =
        event.series.as_ref().and_then(|series| series.last_observed_time.as_ref()).map(|time| time.0);
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    series.max(last).or_else(|| event.event_time.as_ref().map(|time| time.0))
}

/// The StatefulSet's controller may not make the pod: a policy of the cluster.
fn not_made(builder: &str, facts: &Facts, uid: &str, since: Option<Timestamp>) -> Verdict {
    let fresh = |event: &&Event| match (since, at(event)) {
        (Some(since), Some(at)) => at + CLOCKS >= since,
        _ => true,
    };
    let failed = of(facts, uid).filter(fresh).rfind(|event| event.reason.as_deref() == Some("FailedCreate"));
    let Some(message) = failed.and_then(|event| event.message.clone()) else {
        return Verdict::Waiting("the cluster is making its pod".to_owned());
    };
    // `create Pod x in StatefulSet y failed error: CAUSE`
    let cause = message.split_once("failed error: ").map_or(message.as_str(), |(_, cause)| cause);
    Verdict::Fatal {
        exit: Exit::Engine,
        message: format!("the cluster does not admit the pod of builder {builder}: {}", policy::cause(cause)),
        hint: policy::hint(cause).unwrap_or_else(|| {
            "a policy of the cluster refuses it: change what it names, then `trampoline-cli setup`".to_owned()
        }),
    }
}

fn lost_node(seen: &Seen, facts: &Facts) -> Option<Verdict> {
    let pod = seen.pod.as_ref()?;
    // Who may not read nodes still reads what became of the pod.
    let why = facts.node.as_ref().map_or_else(
        || seen.out_of_reach().then(|| "its pod is not ready, though all its containers were".to_owned()),
        not_ready,
    )?;
    let name = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let pod_name = pod.name_any();
    Some(Verdict::Silent {
        message: format!("node {name}, where builder {} is, does not answer ({why})", seen.builder),
        hint: lost_hint(&pod.namespace().unwrap_or_default(), &name, &pod_name),
    })
}
