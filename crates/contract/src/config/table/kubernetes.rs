//! The options of a cluster.

use crate::config::check::Text;
use crate::config::keyed::Keyed;
use crate::config::option::{Effect, Kind, Opt, Reader, Word, field};
use crate::config::types::{AccessMode, DnsPolicy, PullPolicy};

/// All of them are the client's, and change the pod or what stands beside it.
macro_rules! options {
    ($($key:literal, $field:ident: $kind:expr, $example:literal, $doc:literal;)+) => {
        [$(
            Opt {
                table: "kubernetes",
                key: $key,
                kind: $kind,
                example: $example,
                doc: $doc,
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(kubernetes.$field),
            },
        )+]
    };
}

pub(super) static KUBERNETES: [Opt; 23] = options! {
    "namespace", namespace: Kind::Text(Text::Namespace),
        "\"builders\"",
        "Namespace of the builder. Not set: that of the context.";
    "context", context: Kind::Text(Text::Context),
        "\"minikube\"",
        "Context of kubeconfig. Not set: the current one.";
    "storage-class", storage_class: Kind::Text(Text::ObjectName),
        "\"fast\"",
        "Class of the claims, when they are made. Not set: the cluster's default.";
    "access-mode", access_mode: Kind::Word(AccessMode::NAMES),
        "",
        "Of the claims, when they are made. With \"ReadWriteOncePod\" the cluster itself keeps a second \
        pod out, where the class can.";
    "node-selector", node_selector: Kind::Keyed(Keyed::NodeLabels),
        "{ \"kubernetes.io/hostname\" = \"node-1\" }",
        "Labels that the node must have. `system` under [builder] adds the architecture.";
    "tolerations", tolerations: Kind::ApiTables("Toleration"),
        "[{ key = \"builders\", operator = \"Exists\", effect = \"NoSchedule\" }]",
        "Taints that do not keep the builder from a node.";
    "affinity", affinity: Kind::ApiTable("Affinity"),
        "{ podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution = [{ topologyKey = \"rack\" }] }",
        "Which nodes, and which neighbours, the builder wants or avoids.";
    "priority-class", priority_class: Kind::Text(Text::ObjectName),
        "\"low\"",
        "Who goes first where a node is full.";
    "runtime-class", runtime_class: Kind::Text(Text::ObjectName),
        "\"runc\"",
        "What runs the containers. Not set: the node's default.";
    "service-account", service_account: Kind::Text(Text::ObjectName),
        "\"builders\"",
        "A service account that exists already; it is let scale and describe this builder. Not set: one of \
        the builder's own.";
    "pull-secrets", pull_secrets: Kind::List(Text::ObjectName),
        "",
        "Secrets with which nodes fetch the image.";
    "image-pull-policy", image_pull_policy: Kind::Word(PullPolicy::NAMES),
        "",
        "When a node asks the registry for the image.";
    "kvm-resource", kvm_resource: Kind::Text(Text::Resource),
        "\"devices.kubevirt.io/kvm\"",
        "Resource as which a device plugin of the nodes hands out /dev/kvm, asked for where `system-features` \
        has \"kvm\". Not set: the node's own device, which only a privileged pod has.";
    "labels", labels: Kind::Keyed(Keyed::Labels),
        "{ \"example.org/team\" = \"compilers\" }",
        "Labels of everything that is made in the cluster.";
    "annotations", annotations: Kind::Keyed(Keyed::Annotations),
        "{ \"example.org/contact\" = \"us@example.org\" }",
        "Annotations of everything that is made in the cluster.";
    "env", env: Kind::Keyed(Keyed::Environment),
        "{ TZ = \"UTC\" }",
        "Environment of all containers, besides their own.";
    "host-aliases", host_aliases: Kind::Keyed(Keyed::Hosts),
        "{ \"cache.example\" = \"10.0.0.7\" }",
        "Addresses of hosts that no name server knows.";
    "dns-policy", dns_policy: Kind::Word(DnsPolicy::NAMES),
        "\"None\"",
        "Who resolves names. Not set: the cluster decides.";
    "dns", dns: Kind::ApiTable("PodDNSConfig"),
        "{ nameservers = [\"10.0.0.53\"], searches = [\"example.org\"] }",
        "Name servers, search domains and options of the resolver, besides those of `dns-policy`.";
    "open-ports", open_ports: Kind::List(Text::Port),
        "",
        "Ports of the pod that may be reached besides SSH, by number or name.";
    "egress", egress: Kind::List(Text::Egress),
        "[\"10.0.0.0/8\", \"192.0.2.7\", \"substituters\"]",
        "All that may be reached from the pod, besides name servers on port 53: networks, addresses, and hosts, for which \
        `setup` puts the addresses that they have on this machine at that moment (docs/kubernetes.md). \"substituters\" \
        are the hosts of all caches under [daemon] and of `proxy`. The API server's network must be among them, or the builder \
        cannot stop itself. Not set: everything but the address at which clouds hand out a node's credentials.";
    "extra-volumes", extra_volumes: Kind::ApiTables("Volume"),
        "[{ name = \"src\", mountPath = \"/src\", persistentVolumeClaim = { claimName = \"src\" } }]",
        "Further volumes. Besides the fields of a volume each has `mountPath`, and may have `subPath`, \
        `readOnly` and `containers`, a list of containers that see it; without it daemon and user do, at \
        the same path.";
    "pod-patch", pod_patch: Kind::ApiTable("PodTemplateSpec"),
        "{ spec = { schedulerName = \"my-scheduler\" } }",
        "A strategic merge patch for all the rest, applied last: lists merge by name where the API has it \
        so, `\"$patch\" = \"delete\"` removes, `\"$patch\" = \"replace\"` replaces.";
};
