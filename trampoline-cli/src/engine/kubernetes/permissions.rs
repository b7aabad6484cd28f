//! The kinds of objects that a builder is made of, and what the client does with each: one table for the calls and for
//! the Role that `setup --rbac` prints.

use contract::exit::Exit;
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
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

fn rule(group: &str, resources: &[&str], verbs: &[&str]) -> PolicyRule {
    PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(resources.iter().map(|&resource| resource.to_owned()).collect()),
        verbs: verbs.iter().map(|&verb| verb.to_owned()).collect(),
        ..PolicyRule::default()
    }
}

/// What the client asks of a namespace, as rules of a Role.
pub(crate) fn rules() -> Vec<PolicyRule> {
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
        // `create` is only ever a dry run: whether policies admit a pod.
        rule("", &["pods"], &["get", "list", "watch", "create", "patch", "delete"]),
        rule("", &["pods/log"], &["get"]),
        // `get` opens the web socket of older servers, `create` that of newer ones.
        rule("", &["pods/exec", "pods/portforward"], &["get", "create"]),
        rule("", &["events"], &["list"]),
    ]);
    rules
}

/// What it asks of the whole cluster, and does without.
fn cluster_rules() -> Vec<PolicyRule> {
    vec![
        rule("", &["nodes"], &["get", "list"]),
        rule("node.k8s.io", &["runtimeclasses"], &["get"]),
        rule("storage.k8s.io", &["storageclasses"], &["get"]),
    ]
}

const GROUP: &str = "rbac.authorization.k8s.io";

fn reference(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(GROUP.to_owned()), kind: kind.to_owned(), name: name.to_owned() }
}

fn yaml(object: &impl serde::Serialize) -> Result<String> {
    serde_json::to_value(object)
        .map_err(|error| error.to_string())
        .and_then(|value| serde_saphyr::to_string(&value).map_err(|error| error.to_string()))
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot write a Role as YAML: {error}")))
}

/// Roles with these rules and their bindings, for an administrator to apply.
pub(crate) fn manifest(builder: &str, namespace: Option<&str>) -> Result<String> {
    let name = format!("{}-client", pod_name(builder));
    let global = ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() };
    let metadata = ObjectMeta { namespace: namespace.map(str::to_owned), ..global.clone() };
    let subjects = Some(vec![Subject {
        api_group: Some(GROUP.to_owned()),
        kind: "User".to_owned(),
        name: "NAME".to_owned(),
        namespace: None,
    }]);
    let documents = [
        yaml(&Role { metadata: metadata.clone(), rules: Some(rules()) })?,
        yaml(&RoleBinding { metadata, role_ref: reference("Role", &name), subjects: subjects.clone() })?,
        yaml(&ClusterRole {
            metadata: global.clone(),
            rules: Some(cluster_rules()),
            ..ClusterRole::default()
        })?,
        yaml(&ClusterRoleBinding { metadata: global, role_ref: reference("ClusterRole", &name), subjects })?,
    ];
    let [role, binding, cluster_role, cluster_binding] = documents;
    Ok(format!(
        "# What trampoline-cli asks of a namespace, for builders of any name. Put your user's name for NAME.\n\
         {role}---\n{binding}\
         # From here on it is optional, and a matter of the whole cluster: with it `isolation = \"auto\"` looks at the nodes\n\
         # themselves, and more is explained. Without it nothing fails.\n\
         ---\n{cluster_role}---\n{cluster_binding}"
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
