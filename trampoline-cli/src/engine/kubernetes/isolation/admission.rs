//! Whether a cluster's policies admit a pod: asked with the pod itself, of which nothing is made.

use contract::places::Container;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::api::PostParams;
use kube::core::Status;

use crate::engine::kubernetes::client::{Cluster, Failed};
use crate::engine::kubernetes::{FIELD_MANAGER, explain, failure};
use crate::error::Result;

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Admission {
    /// Or refused for something that has nothing to do with isolation, and is told when the pod is really made.
    Admitted,
    /// Not such a pod, in the cluster's words.
    Refused(String),
    /// It could not be asked.
    Unknown(String),
}

/// Words of refusals that another isolation may not meet: Pod Security, policies of a cluster's own, security context
/// constraints, and fields that the API server does not take.
const ABOUT: [&str; 6] = [
    "PodSecurity",
    "admission webhook",
    "ValidatingAdmissionPolicy",
    "security context constraint",
    "hostUsers",
    "procMount",
];

/// Asks. `account` is a service account that is there already; the builder's own may be yet to be made.
pub(super) async fn of(cluster: &Cluster, pod: &Pod, account: Option<&str>) -> Result<Admission> {
    let mut pod = pod.clone();
    // The pod of that name may run.
    pod.metadata.generate_name = pod.metadata.name.take().map(|name| format!("{name}-"));
    pod.metadata.namespace = Some(cluster.namespace.clone());
    if let Some(spec) = &mut pod.spec {
        spec.service_account_name = account.map(str::to_owned);
    }
    let params = PostParams { dry_run: true, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let pods = cluster.api::<Pod>();
    match cluster.attempt(|| pods.create(&params, &pod)).await {
        Ok(made) => Ok(kept(pod.spec.as_ref(), made.spec.as_ref())),
        Err(Failed::Error(kube::Error::Api(status))) => Ok(judge(&status)),
        Err(failed) => Err(failure::explain(cluster, "cannot ask whether a pod would be admitted", failed)),
    }
}

/// An API server drops fields that it does not know.
fn kept(asked: Option<&PodSpec>, made: Option<&PodSpec>) -> Admission {
    let of = |spec: Option<&PodSpec>| {
        let spec = spec?;
        let daemon = spec.containers.iter().find(|container| container.name == Container::Daemon.name())?;
        Some((spec.host_users?, daemon.security_context.as_ref()?.proc_mount.clone()?))
    };
    if of(asked) == of(made) {
        Admission::Admitted
    } else {
        Admission::Refused("the API server drops the fields hostUsers and procMount".to_owned())
    }
}

fn judge(status: &Status) -> Admission {
    let words = explain::policy_cause(&status.message);
    if failure::is_denied(status) || status.code == 404 || words.contains("not support dry run") {
        return Admission::Unknown(words);
    }
    let about = status.code == 422 || ABOUT.iter().any(|about| words.contains(about));
    if about { Admission::Refused(words) } else { Admission::Admitted }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_counts_if_it_is_about_isolation() {
        let psa = r#"pods "a-x" is forbidden: violates PodSecurity "baseline:latest": privileged (container "daemon" must not set securityContext.privileged=true)"#;
        let quota =
            r#"pods "a-x" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"#;
        let rbac = r#"pods is forbidden: User "bob" cannot create resource "pods" in API group "" in the namespace "x""#;
        let kyverno =
            r#"admission webhook "validate.kyverno.svc-fail" denied the request: disallow-privileged"#;
        let webhook = r#"admission webhook "x.example" does not support dry run"#;
        for (code, message, refused, unknown) in [
            (403, psa, true, false),
            (403, quota, false, false),
            (403, rbac, false, true),
            (400, kyverno, true, false),
            (400, webhook, false, true),
            (404, "namespaces \"x\" not found", false, true),
            (422, "Pod \"a\" is invalid: spec.x: Invalid value", true, false),
        ] {
            let admission = judge(&Status::failure(message, "").with_code(code));
            assert_eq!(matches!(admission, Admission::Refused(_)), refused, "{message}");
            assert_eq!(matches!(admission, Admission::Unknown(_)), unknown, "{message}");
        }
    }

    #[test]
    fn a_server_that_drops_the_fields_admits_another_pod() {
        let spec = |fields: serde_json::Value| {
            let mut daemon = json!({ "name": "daemon" });
            daemon["securityContext"] = fields["securityContext"].clone();
            serde_json::from_value::<PodSpec>(
                json!({ "containers": [daemon], "hostUsers": fields["hostUsers"] }),
            )
            .unwrap()
        };
        let asked = spec(json!({ "hostUsers": false, "securityContext": { "procMount": "Unmasked" } }));
        let privileged = spec(json!({ "securityContext": { "privileged": true } }));
        assert_eq!(kept(Some(&asked), Some(&asked)), Admission::Admitted);
        assert_eq!(kept(Some(&privileged), Some(&privileged)), Admission::Admitted);
        for dropped in
            [json!({ "securityContext": { "procMount": "Unmasked" } }), json!({ "hostUsers": false })]
        {
            assert!(matches!(kept(Some(&asked), Some(&spec(dropped))), Admission::Refused(_)));
        }
    }
}
