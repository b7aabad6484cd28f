//! The kinds of objects that a builder is made of, and what the client does with each: one table for the calls and for
//! the Role that `setup --rbac` prints.

use contract::exit::Exit;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, GroupVersionKind};

use crate::engine::pod_name;
use crate::error::{CliError, Result};

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    /// As a manifest calls it.
    pub(crate) kind: &'static str,
    /// Empty: the core.
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    /// As a Role calls it.
    pub(crate) plural: &'static str,
}

const fn kind(kind: &'static str, group: &'static str, version: &'static str, plural: &'static str) -> Kind {
    Kind { kind, group, version, plural }
}

/// Everything that is applied, in the order in which it is removed: what makes pods first.
pub(crate) const KINDS: [Kind; 9] = [
    kind("StatefulSet", "apps", "v1", "statefulsets"),
    kind("Service", "", "v1", "services"),
    kind("PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"),
    kind("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies"),
    kind("RoleBinding", "rbac.authorization.k8s.io", "v1", "rolebindings"),
    kind("Role", "rbac.authorization.k8s.io", "v1", "roles"),
    kind("ServiceAccount", "", "v1", "serviceaccounts"),
    kind("ConfigMap", "", "v1", "configmaps"),
    kind("PersistentVolumeClaim", "", "v1", "persistentvolumeclaims"),
];

impl Kind {
    /// The kind of a manifest.
    pub(crate) fn of(object: &serde_json::Value) -> Option<Self> {
        let name = object.get("kind")?.as_str()?;
        KINDS.into_iter().find(|kind| kind.kind == name)
    }

    /// For calls.
    pub(crate) fn resource(self) -> ApiResource {
        ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk(self.group, self.version, self.kind),
            self.plural,
        )
    }
}

/// What the client asks of a namespace, as rules of a Role. Nodes and storage classes, which explain more where they
/// may be read, belong to the whole cluster and are not in it.
pub(crate) fn rules() -> Vec<PolicyRule> {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|&resource| resource.to_owned()).collect()),
        verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..PolicyRule::default()
    };
    let mut rules: Vec<PolicyRule> = Vec::new();
    for kind in KINDS {
        // `create`: server-side apply makes what is not there.
        let verbs = ["get", "list", "watch", "create", "patch", "delete"];
        match rules.iter_mut().find(|rule| rule.api_groups.as_deref() == Some(&[kind.group.to_owned()])) {
            Some(rule) => rule.resources.get_or_insert_default().push(kind.plural.to_owned()),
            None => rules.push(rule(kind.group, &[kind.plural], &verbs)),
        }
    }
    rules.extend([
        // Nobody may give a role, the monitor's, that holds more than what is his own.
        rule("apps", &["statefulsets/scale"], &["get", "patch"]),
        rule("", &["pods"], &["get", "list", "watch", "patch", "delete"]),
        rule("", &["pods/log"], &["get"]),
        // `get` opens the web socket of older servers, `create` that of newer ones.
        rule("", &["pods/exec", "pods/portforward"], &["get", "create"]),
        rule("", &["events"], &["list"]),
    ]);
    rules
}

/// A Role with these rules and its binding, for an administrator to apply.
pub(crate) fn manifest(builder: &str, namespace: Option<&str>) -> Result<String> {
    let name = format!("{}-client", pod_name(builder));
    let metadata = ObjectMeta {
        name: Some(name.clone()),
        namespace: namespace.map(str::to_owned),
        ..ObjectMeta::default()
    };
    let role = Role { metadata: metadata.clone(), rules: Some(rules()) };
    let binding = RoleBinding {
        metadata,
        role_ref: RoleRef {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "Role".to_owned(),
            name,
        },
        subjects: Some(vec![Subject {
            api_group: Some("rbac.authorization.k8s.io".to_owned()),
            kind: "User".to_owned(),
            name: "NAME".to_owned(),
            namespace: None,
        }]),
    };
    let written = |object: serde_json::Result<serde_json::Value>| {
        object
            .map_err(|error| error.to_string())
            .and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string()))
            .map_err(|error| CliError::new(Exit::Internal, format!("cannot write a Role as YAML: {error}")))
    };
    Ok(format!(
        "# What trampoline-cli asks of a namespace, for builders of any name. Put your user's name for NAME.\n\
         # Reading nodes and storage classes is a matter of the whole cluster: without it less is explained, and nothing fails.\n\
         {}---\n{}",
        written(serde_json::to_value(role))?,
        written(serde_json::to_value(binding))?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_the_table_is_in_a_rule() {
        let rules = rules();
        for kind in KINDS {
            let found = rules.iter().any(|rule| {
                rule.api_groups.as_ref().is_some_and(|groups| groups.iter().any(|group| group == kind.group))
                    && rule.resources.as_ref().is_some_and(|all| all.iter().any(|name| name == kind.plural))
            });
            assert!(found, "{}", kind.kind);
            assert_eq!(kind.resource().plural, kind.plural);
        }
    }
}
