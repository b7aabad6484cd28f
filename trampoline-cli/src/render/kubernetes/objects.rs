//! Every object of the template, in its type.

use std::collections::BTreeMap;

use contract::config::Config;
use contract::exit::Exit;
use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PodTemplateSpec, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPort};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Common, egress, pod, template};
use crate::engine::{Volume, label};
use crate::error::{CliError, Result};
use crate::render::metrics_port;
use crate::resolve::Hosts;

/// What the objects are made from.
pub(super) struct Made<'a> {
    pub(super) common: &'a Common,
    pub(super) config: &'a Config,
    /// Resolved.
    pub(super) hosts: &'a Hosts,
    /// Of the configuration.
    pub(super) files: &'a BTreeMap<String, String>,
    /// The pod.
    pub(super) template: &'a PodTemplateSpec,
    /// Its digest.
    pub(super) digest: &'a str,
}

impl Made<'_> {
    /// The builder's object for one of the template's; none: the user has one of his own.
    pub(super) fn object(&self, object: Value) -> Result<Option<Value>> {
        let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
        match kind.as_str() {
            "ServiceAccount" if self.config.kubernetes.service_account.is_some() => Ok(None),
            "ServiceAccount" => self.typed(object, |_: &mut ServiceAccount| ()),
            "Role" => self.typed(object, |role: &mut Role| self.role(role)),
            "RoleBinding" => self.typed(object, |binding: &mut RoleBinding| self.binding(binding)),
            "ConfigMap" => self.typed(object, |map: &mut ConfigMap| self.map(map)),
            "PersistentVolumeClaim" => {
                self.typed(object, |claim: &mut PersistentVolumeClaim| self.claim(claim))
            }
            "Service" => self.typed(object, |service: &mut Service| {
                let selector = service.spec.as_mut().and_then(|spec| spec.selector.as_mut());
                selector.into_iter().for_each(|labels| self.common.relabel(labels));
            }),
            "PodDisruptionBudget" => self.typed(object, |budget: &mut PodDisruptionBudget| {
                let selector = budget.spec.as_mut().and_then(|spec| spec.selector.as_mut());
                selector.into_iter().for_each(|selector| self.select(selector));
            }),
            "NetworkPolicy" => self.typed(object, |policy: &mut NetworkPolicy| self.policy(policy)),
            "StatefulSet" => self.typed(object, |set: &mut StatefulSet| self.set(set)),
            other => Err(template::wrong(format!("a {other:?}, of which nothing is known"))),
        }
    }

    fn typed<T>(&self, object: Value, patch: impl FnOnce(&mut T)) -> Result<Option<Value>>
    where
        T: Metadata<Ty = ObjectMeta> + DeserializeOwned + Serialize,
    {
        let mut object: T = serde_json::from_value(object).map_err(template::wrong)?;
        self.common.metadata(object.metadata_mut());
        patch(&mut object);
        serde_json::to_value(object).map(Some).map_err(|error| {
            CliError::new(Exit::Internal, format!("cannot write an object as JSON: {error}"))
        })
    }

    fn select(&self, selector: &mut LabelSelector) {
        selector.match_labels.iter_mut().for_each(|labels| self.common.relabel(labels));
    }

    fn role(&self, role: &mut Role) {
        let names = role.rules.iter_mut().flatten().filter_map(|rule| rule.resource_names.as_mut()).flatten();
        names.for_each(|name| *name = self.common.rename(name));
    }

    fn binding(&self, binding: &mut RoleBinding) {
        binding.role_ref.name = self.common.rename(&binding.role_ref.name);
        for subject in binding.subjects.iter_mut().flatten() {
            let own = self.common.rename(&subject.name);
            subject.name = self.config.kubernetes.service_account.clone().unwrap_or(own);
            subject.namespace.clone_from(&self.common.namespace);
        }
    }

    /// That of the status has its data from the monitor.
    fn map(&self, map: &mut ConfigMap) {
        if map.data.is_some() {
            map.data = Some(self.files.clone());
        }
    }

    fn claim(&self, claim: &mut PersistentVolumeClaim) {
        let Some(spec) = &mut claim.spec else { return };
        let tables = &self.config.kubernetes;
        spec.access_modes = Some(vec![tables.access_mode.to_string()]);
        spec.storage_class_name.clone_from(&tables.storage_class);
        let is = |volume: Volume| claim.metadata.name.as_deref() == Some(&volume.of(&self.common.builder));
        let sizes = &self.config.builder;
        let size = if is(Volume::Store) {
            sizes.store_size
        } else if is(Volume::Build) {
            sizes.build_size
        } else {
            sizes.home_size
        };
        let requests = spec.resources.get_or_insert_default().requests.get_or_insert_default();
        requests.insert("storage".to_owned(), pod::quantity(size));
    }

    fn policy(&self, policy: &mut NetworkPolicy) {
        let Some(spec) = &mut policy.spec else { return };
        spec.pod_selector.iter_mut().for_each(|selector| self.select(selector));
        let port = |text: &String| NetworkPolicyPort {
            port: Some(text.parse().map_or_else(|_| IntOrString::String(text.clone()), IntOrString::Int)),
            ..NetworkPolicyPort::default()
        };
        let rule = spec.ingress.iter_mut().flatten().next();
        let metrics = metrics_port(self.config).map(|number| number.to_string());
        let open = self.config.kubernetes.open_ports.iter().chain(&metrics).map(port);
        if let Some(rule) = rule {
            rule.ports.get_or_insert_default().extend(open);
        }
        let open = self.config.daemon.node_credentials;
        match self.config.reach() {
            Some(reach) => {
                spec.egress = Some(egress::rules(&reach, self.hosts, open));
                let note = egress::note(&reach, self.hosts).map(|note| (label::EGRESS.to_owned(), note));
                policy.metadata.annotations.get_or_insert_default().extend(note);
            }
            None if open => spec.egress = Some(egress::open()),
            None => {}
        }
    }

    fn set(&self, set: &mut StatefulSet) {
        set.metadata
            .annotations
            .get_or_insert_default()
            .insert(label::DIGEST.to_owned(), self.digest.to_owned());
        set.spec.service_name = set.spec.service_name.take().map(|name| self.common.rename(&name));
        self.select(&mut set.spec.selector);
        set.spec.template = self.template.clone();
    }
}
