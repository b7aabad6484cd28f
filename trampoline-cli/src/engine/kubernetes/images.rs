//! Which program puts an image on the nodes of a local cluster.

use super::kubeconfig::Target;
use crate::error::{CliError, Result};

/// By the name that each gives to its context. The archive's name is put behind the words.
pub(super) fn loader(target: &Target) -> Result<Vec<String>> {
    let context = target.place().0.unwrap_or_default();
    let words = |list: &[&str]| Ok(list.iter().map(|word| (*word).to_owned()).collect());
    if context == "minikube" || target.is_minikube() {
        return words(&["minikube", "--profile", &context, "image", "load"]);
    }
    if let Some(name) = context.strip_prefix("kind-") {
        return words(&["kind", "load", "image-archive", "--name", name]);
    }
    if let Some(name) = context.strip_prefix("k3d-") {
        return words(&["k3d", "image", "import", "--cluster", name]);
    }
    let what = if context.is_empty() { "this cluster".to_owned() } else { format!("context {context}") };
    Err(CliError::usage(format!(
        "{what} is neither minikube nor kind nor k3d: nothing says how an image gets to its nodes"
    ))
    .hint(
        "`trampoline-cli image push REGISTRY/NAME` for a cluster that pulls; on a node itself \
         `--to 'sudo ctr --namespace k8s.io images import'`",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_the_name_of_the_context() {
        let of = |context: &str| {
            let target = Target { context: Some(context.to_owned()), namespace: None };
            loader(&target).map(|words| words.join(" ")).ok()
        };
        assert_eq!(of("kind-ci").as_deref(), Some("kind load image-archive --name ci"));
        assert_eq!(of("minikube").as_deref(), Some("minikube --profile minikube image load"));
        assert_eq!(of("k3d-a").as_deref(), Some("k3d image import --cluster a"));
        assert_eq!(of("prod"), None);
    }
}
