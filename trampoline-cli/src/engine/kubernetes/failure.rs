//! What the API server, or the way to it, says no with; each with what to do next.

use contract::exit::Exit;
use kube::core::Status;

use super::client::{Cluster, Failed};
use super::credentials::{self, Plugin};
use crate::error::CliError;

/// The object is not there. A namespace that is not there is another matter.
pub(super) fn is_absent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404 && !names_a_namespace(status))
}

fn names_a_namespace(status: &Status) -> bool {
    status.details.as_ref().is_some_and(|details| details.kind == "namespaces")
}

/// Somebody has no permission, which is no policy.
pub(super) fn is_denied(status: &Status) -> bool {
    status.code == 403 && Denied::parse(&status.message).is_some()
}

/// Why the server did not answer, where asking again may help.
pub(super) fn away(error: &kube::Error) -> Option<String> {
    match error {
        kube::Error::Api(status) => {
            let words = status.message.to_lowercase();
            // It is there, and says that a node is not.
            if words.contains("error dialing backend") {
                return None;
            }
            let passing = matches!(status.code, 429 | 502 | 503 | 504)
                || (status.code == 500 && (words.contains("etcdserver") || words.contains("timeout")));
            passing.then(|| format!("{} {}", status.code, short(&status.message)))
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            let cause = innermost(error);
            (!is_tls(&cause) && auth(error).is_none()).then_some(cause)
        }
        kube::Error::UpgradeConnection(kube::client::UpgradeConnectionError::ProtocolSwitch(status))
            if matches!(status.as_u16(), 429 | 502 | 503 | 504) =>
        {
            Some(status.to_string())
        }
        _ => None,
    }
}

fn innermost(error: &kube::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    let text = match cause.to_string() {
        // As the runtime says it.
        text if text == "deadline has elapsed" => "no answer".to_owned(),
        text => text,
    };
    // `Connection refused (os error 111)`: the number says nothing more.
    text.split(" (os error").next().unwrap_or(&text).to_lowercase()
}

fn is_tls(cause: &str) -> bool {
    ["certificate", "tls", "handshake", "unknownissuer", "corrupt message"]
        .iter()
        .any(|word| cause.contains(word))
}

/// What a credential plugin or token file failed with, which the library wraps like a broken connection.
fn auth(error: &kube::Error) -> Option<&kube::client::AuthError> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        if let Some(auth) = error.downcast_ref::<kube::client::AuthError>() {
            return Some(auth);
        }
        cause = error.source();
    }
    None
}

/// The kubeconfig was read, but no client can be made of it.
pub(super) fn unusable(place: &str, plugin: Option<&Plugin>, error: &kube::Error) -> CliError {
    if let kube::Error::Auth(auth) = error {
        return credentials::missing(place, plugin, auth);
    }
    CliError::new(Exit::Config, format!("the kubeconfig's {place} cannot be used: {error}"))
        .hint("`kubectl config view --minify` shows it")
}

/// A failed call as the user sees it. `doing` is a verb phrase.
pub(super) fn explain(cluster: &Cluster, doing: &str, failed: Failed) -> CliError {
    let error = match failed {
        Failed::Silent => return unreachable(cluster, doing, "it does not answer"),
        Failed::Error(error) => error,
    };
    if let Some(auth) = auth(&error) {
        return credentials::missing(&cluster.place, cluster.plugin.as_ref(), auth);
    }
    match &error {
        kube::Error::Api(status) => refusal(&cluster.place, &cluster.namespace, doing, status),
        kube::Error::SerdeError(source) => {
            CliError::new(Exit::Internal, format!("{doing}: the answer cannot be read: {source}"))
        }
        kube::Error::HyperError(_) | kube::Error::Service(_) | kube::Error::ReadEvents(_) => {
            let cause = innermost(&error);
            if is_tls(&cause) { untrusted(cluster, &cause) } else { unreachable(cluster, doing, &cause) }
        }
        other => CliError::engine(format!("{doing}: {other}")),
    }
}

fn unreachable(cluster: &Cluster, doing: &str, why: &str) -> CliError {
    let address = &cluster.address;
    let (through, and_proxy, up) = match &cluster.proxy {
        Some(proxy) => (
            format!(" through the proxy {proxy}"),
            " behind the right proxy (`proxy-url`, `HTTPS_PROXY`)",
            "are both up",
        ),
        None => (String::new(), "", "is it up"),
    };
    CliError::engine(format!("{doing}: the API server at {address} is not there{through}: {why}")).hint(format!(
        "is it the right cluster ({}){and_proxy}, and {up}? `kubectl cluster-info` asks the same server; the builder and its \
         store are as they were",
        cluster.place
    ))
}

fn untrusted(cluster: &Cluster, cause: &str) -> CliError {
    CliError::engine(format!(
        "no trusted connection to the API server at {}: {cause}",
        cluster.address
    ))
    .hint(
        "its certificate is not what the kubeconfig expects (`certificate-authority`, `tls-server-name`): the cluster was made \
         again, or something between here and there answers in its place",
    )
}

/// An answer of the server that is a no.
pub(super) fn refusal(place: &str, namespace: &str, doing: &str, status: &Status) -> CliError {
    match status.code {
        401 => credentials::refused(place),
        403 => match Denied::parse(&status.message) {
            Some(denied) => denied.error(place),
            None => admission(doing, status),
        },
        404 if names_a_namespace(status) => {
            let name = status.details.as_ref().map_or(namespace, |details| details.name.as_str());
            CliError::engine(format!("{place} has no namespace {name}")).hint(format!(
                "`kubectl create namespace {name}` makes it; --namespace, or `namespace` under [kubernetes], names another"
            ))
        }
        409 if !causes(status).is_empty() => conflict(doing, status),
        422 => {
            let words = invalid(status);
            let hint = super::explain::policy_hint(&words).unwrap_or_else(|| {
                "`trampoline-cli setup --dry-run` prints what the cluster is given".to_owned()
            });
            CliError::new(Exit::Config, format!("{doing}: {words}")).hint(hint)
        }
        _ => admission(doing, status),
    }
}

/// Policies of the cluster (Pod Security, quotas, webhooks) say which field themselves.
fn admission(doing: &str, status: &Status) -> CliError {
    let words = short(&status.message);
    let error = CliError::engine(format!("{doing}: {words}"));
    match super::explain::policy_hint(&words) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

fn causes(status: &Status) -> Vec<(String, String)> {
    status
        .details
        .iter()
        .flat_map(|details| &details.causes)
        .map(|cause| (cause.field.clone(), cause.message.clone()))
        .collect()
}

/// `spec.a: Invalid value: ...; spec.b: ...`
fn invalid(status: &Status) -> String {
    let causes = causes(status);
    if causes.is_empty() {
        return short(&status.message);
    }
    causes.iter().map(|(field, message)| format!("{field}: {message}")).collect::<Vec<_>>().join("; ")
}

/// Somebody else has said what a field of ours should be.
fn conflict(doing: &str, status: &Status) -> CliError {
    let fields: Vec<String> = causes(status)
        .into_iter()
        .map(|(field, message)| {
            let who = message.split('"').nth(1).unwrap_or("somebody").to_owned();
            format!("{} (set by {who})", field.trim_start_matches('.'))
        })
        .collect();
    CliError::new(Exit::InUse, format!("{doing}: other people or programs manage {}", fields.join(", "))).hint(
        "agree with them: let trampoline.toml say what they want, or have them leave these fields out of what they apply",
    )
}

/// Nobody reads more than this of a message.
fn short(message: &str) -> String {
    let one = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if one.chars().count() <= 600 { one } else { one.chars().take(600).chain("...".chars()).collect() }
}

/// `... is forbidden: User "x" cannot get resource "statefulsets" in API group "apps" in the namespace "y"`
#[derive(Debug, PartialEq, Eq)]
struct Denied {
    user: String,
    verb: String,
    /// `statefulsets.apps`
    resource: String,
    namespace: Option<String>,
}

impl Denied {
    fn parse(message: &str) -> Option<Self> {
        let (before, after) = message.split_once("cannot ")?;
        let quoted = |text: &str| text.split('"').nth(1).map(str::to_owned);
        let user = before.rsplit_once("User ").and_then(|(_, text)| quoted(text)).unwrap_or_default();
        let (verb, after) = after.split_once(' ')?;
        let resource = after.strip_prefix("resource ").and_then(quoted)?;
        let group =
            after.split_once("in API group ").and_then(|(_, text)| quoted(text)).filter(|g| !g.is_empty());
        let namespace = after.split_once("in the namespace ").and_then(|(_, text)| quoted(text));
        let resource = group.map_or(resource.clone(), |group| format!("{resource}.{group}"));
        Some(Self { user, verb: verb.to_owned(), resource, namespace })
    }

    fn error(&self, place: &str) -> CliError {
        let scope = match &self.namespace {
            Some(namespace) => format!("in namespace {namespace}"),
            None => "in the whole cluster".to_owned(),
        };
        CliError::new(
            Exit::NoPermission,
            format!("{} may not {} {} {scope} ({place})", self.user, self.verb, self.resource),
        )
        .hint("`trampoline-cli setup --rbac` prints the Role to ask an administrator for")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16, message: &str) -> Status {
        Status::failure(message, "").with_code(code)
    }

    #[test]
    fn a_missing_permission_is_named_as_verb_resource_and_namespace() {
        let message = r#"statefulsets.apps "trampoline-a" is forbidden: User "system:serviceaccount:ci:runner" cannot patch resource "statefulsets/scale" in API group "apps" in the namespace "builders""#;
        let error = refusal("context prod", "builders", "cannot start", &status(403, message));
        assert_eq!(
            error.message,
            "system:serviceaccount:ci:runner may not patch statefulsets/scale.apps in namespace builders (context prod)"
        );
        assert_eq!(error.exit, Exit::NoPermission);
        assert!(error.hint.is_some_and(|hint| hint.contains("setup --rbac")));
        let core = r#"pods is forbidden: User "bob" cannot list resource "pods" in API group "" at the cluster scope"#;
        let error = refusal("context prod", "x", "cannot list", &status(403, core));
        assert_eq!(error.message, "bob may not list pods in the whole cluster (context prod)");
    }

    #[test]
    fn a_policy_is_no_missing_permission() {
        let message = r#"pods "x-0" is forbidden: violates PodSecurity "baseline:latest": privileged (container "daemon" must not set securityContext.privileged=true)"#;
        let error = refusal("context a", "x", "cannot make pod x-0", &status(403, message));
        assert!(error.message.contains("securityContext.privileged"), "{error}");
        assert_eq!(error.exit, Exit::Engine);
    }

    #[test]
    fn what_passes_is_asked_again() {
        assert!(away(&kube::Error::Api(status(503, "no endpoints").boxed())).is_some());
        assert!(away(&kube::Error::Api(status(500, "etcdserver: leader changed").boxed())).is_some());
        assert!(away(&kube::Error::Api(status(500, "failed calling webhook").boxed())).is_none());
        assert!(away(&kube::Error::Api(status(404, "not found").boxed())).is_none());
        let node = "error dialing backend: dial tcp 10.0.0.1:10250: i/o timeout";
        assert!(away(&kube::Error::Api(status(500, node).boxed())).is_none());
        assert!(is_absent(&kube::Error::Api(status(404, "pods \"a\" not found").boxed())));
    }
}
