//! Refusals by the cluster's own policies: Pod Security, quotas, limits, webhooks.

/// What is refused and why, without how it was asked for.
pub(crate) fn cause(message: &str) -> String {
    let after = message.split_once(" is forbidden: ").map_or(message, |(_, after)| after);
    after.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Each level of the standard refuses other fields of ours.
fn pod_security(message: &str) -> &'static str {
    if message.contains("PodSecurity \"restricted") {
        "no pod of that level can make the sandbox of a build: use a namespace with `pod-security.kubernetes.io/enforce=baseline` \
         (--namespace), or ask its administrator for that label"
    } else if message.contains("privileged=true") {
        "`isolation = \"userns\"` under [daemon] makes a pod that this level admits; else use a namespace with \
         `pod-security.kubernetes.io/enforce=privileged` (--namespace), or ask its administrator for that label"
    } else if message.contains("procMount") {
        "the level \"baseline\" admits it since version 1.35: ask the namespace's administrator for \
         `pod-security.kubernetes.io/enforce-version=latest`; on an older cluster, for `pod-security.kubernetes.io/enforce=privileged`"
    } else {
        "the namespace does not let pods have these fields: leave out the options of [kubernetes] that ask for them, or use a \
         namespace with `pod-security.kubernetes.io/enforce=privileged` (--namespace)"
    }
}

/// What to do about it, for those that are known.
pub(crate) fn hint(message: &str) -> Option<String> {
    const KNOWN: [(&str, &str); 8] = [
        (
            "must be false to use",
            "the API server knows no user namespaces, which Kubernetes 1.33 does, or `pod-patch` takes `hostUsers` away: \
             `isolation = \"privileged\"` under [daemon] is the other way",
        ),
        (
            "exceeded quota",
            "the namespace's quota is used up: lower `memory`, `cpus` and their requests under [builder.daemon] and [builder.user], \
             or sizes of claims, free something, or ask for more (`kubectl describe quota`)",
        ),
        (
            "must specify limits",
            "the namespace's quota wants limits for all containers, also those that `pod-patch` adds",
        ),
        (
            "usage per Container is",
            "the namespace has a LimitRange: bring `memory`, `cpus` and their requests under [builder] within it (`kubectl describe limitrange`)",
        ),
        (
            "usage per PersistentVolumeClaim is",
            "the namespace has a LimitRange for claims: bring `store-size`, `home-size` and `build-size` within it (`kubectl describe limitrange`)",
        ),
        (
            "no PriorityClass with name",
            "`kubectl get priorityclass` lists those that exist; `priority-class` under [kubernetes] names one",
        ),
        (
            "RuntimeClass",
            "`kubectl get runtimeclass` lists those that exist; `runtime-class` under [kubernetes] names one",
        ),
        (
            "the storageclass that provisions the pvc must support resize",
            "its storage class lets no claim grow: set the size back, or make the builder again with another `storage-class`",
        ),
    ];
    if message.contains("violates PodSecurity") {
        return Some(pod_security(message).to_owned());
    }
    if message.contains("serviceaccount") && message.contains("not found") {
        return Some("`service-account` under [kubernetes] names one that is not in the namespace: make it, or leave the option out".to_owned());
    }
    let known = KNOWN.iter().find(|(words, _)| message.contains(words)).map(|(_, hint)| (*hint).to_owned());
    known.or_else(|| {
        message.contains("admission webhook").then(|| {
            "a policy of this cluster's own refuses it: change what it names (labels, annotations and `pod-patch` under [kubernetes]), or ask \
             who runs that webhook"
                .to_owned()
        })
    })
}
