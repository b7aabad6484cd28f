//! `container/pod/k8s-pod.yaml`: one template for every engine.

use contract::exit::Exit;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::Value;

use crate::embedded;
use crate::error::{CliError, Result};

/// Its name in `container/`.
const TEMPLATE: &str = "pod/k8s-pod.yaml";

/// All of its objects, in its order: what others refer to stands first.
pub(super) fn objects() -> Result<Vec<Value>> {
    let text = embedded::container_file(TEMPLATE).ok_or_else(|| {
        CliError::new(Exit::Internal, format!("this program was built without container/{TEMPLATE}"))
    })?;
    serde_saphyr::from_multiple(text).map_err(|error| wrong(error.to_string()))
}

/// Pod of the template's StatefulSet.
pub(super) fn pod_spec() -> Result<PodSpec> {
    let set = objects()?
        .into_iter()
        .find(|document| document.get("kind").and_then(|kind| kind.as_str()) == Some("StatefulSet"))
        .ok_or_else(|| wrong("no StatefulSet"))?;
    let set: StatefulSet = serde_json::from_value(set).map_err(|error| wrong(error.to_string()))?;
    set.spec.template.spec.ok_or_else(|| wrong("its StatefulSet has no pod"))
}

/// The template itself is to blame, not the user.
pub(super) fn wrong(problem: impl std::fmt::Display) -> CliError {
    CliError::new(Exit::Internal, format!("container/{TEMPLATE}: {problem}"))
}
