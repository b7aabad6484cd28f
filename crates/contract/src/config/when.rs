//! When an operator changes an option: a column of the operator's page. Every option has its line; a test sees to that.

/// Of the option of this path. Options that are the same for each container stand here once.
pub(super) fn when(path: &str) -> Option<&'static str> {
    let found = |wanted: &str| WHEN.iter().find(|(known, _)| *known == wanted).map(|(_, text)| *text);
    let key = path.rsplit_once('.').map_or(path, |(_, key)| key);
    found(path).or_else(|| path.starts_with("builder.").then(|| found(key)).flatten())
}

static WHEN: &[(&str, &str)] = &[
    ("builder.name", "Several builders, or several people who share a namespace."),
    ("builder.engine", "The builder is to run in a cluster."),
    ("builder.image", "Your registry has it, or you made one with a newer Nix."),
    ("builder.system", "Nodes of several architectures; or the wrong one must be refused."),
    ("builder.system-features", "Builds ask for a feature that no builder offers, such as \"kvm\"."),
    ("builder.project", "Two checkouts have the same folder's name, or one is to keep its name."),
    ("builder.ssh-port", "A firewall or another program's configuration names the port."),
    (
        "builder.store-size",
        "`status` shows little disk after a collection; a cluster's claims grow, and never shrink.",
    ),
    ("builder.home-size", "Large checkouts, or many projects."),
    ("builder.build-size", "Builds end with \"no space left on device\" while the store has room."),
    ("memory", "Builds or evaluations are killed for memory; or it takes too much of a shared machine."),
    ("cpus", "Builds are slow and the machine idles; or others need it."),
    ("memory-request", "A node lets the builder in and is then short of memory."),
    ("cpu-request", "Builds starve beside neighbours on a busy node."),
    ("builder.maintenance.memory", "It is killed for memory: it should not be."),
    ("builder.shutdown-monitor.memory", "It is killed for memory: it should not be."),
    ("kubernetes.namespace", "Your rights are in another namespace than the context's."),
    ("kubernetes.context", "Your kubeconfig has several clusters."),
    ("kubernetes.storage-class", "The default class is slow, or its volumes do not grow."),
    ("kubernetes.access-mode", "The class can do \"ReadWriteOncePod\"; or only \"ReadWriteMany\"."),
    ("kubernetes.node-selector", "Some nodes are for builders."),
    ("kubernetes.tolerations", "Those nodes are tainted."),
    ("kubernetes.affinity", "Two builders must not share a node, or must be near something."),
    ("kubernetes.priority-class", "Other work is to go first, or last."),
    (
        "kubernetes.runtime-class",
        "Some containers of the cluster run in another runtime, such as a virtual machine.",
    ),
    ("kubernetes.service-account", "You may not make service accounts."),
    ("kubernetes.pull-secrets", "The registry asks for a password."),
    (
        "kubernetes.image-pull-policy",
        "The image's tag moves (\"Always\"), or no registry answers (\"Never\").",
    ),
    ("kubernetes.kvm-resource", "Builds need /dev/kvm in a pod without privilege."),
    ("kubernetes.labels", "Your cluster wants to know whose everything is."),
    ("kubernetes.annotations", "Another program of the cluster reads them."),
    ("kubernetes.env", "A program in the pod needs a variable."),
    ("kubernetes.host-aliases", "A host has no name that the cluster resolves."),
    ("kubernetes.dns-policy", "The cluster's name server does not serve pods like this one."),
    ("kubernetes.dns", "Names are resolved by another server, or shortened."),
    ("kubernetes.open-ports", "You serve something in the builder that others are to reach."),
    ("kubernetes.egress", "Builds must not reach the whole network."),
    ("kubernetes.extra-volumes", "Sources or caches are on a volume already."),
    ("kubernetes.pod-patch", "Nothing else here says it."),
    ("daemon.isolation", "You want a refusal rather than the other kind."),
    ("daemon.seccomp", "Nodes filter system calls by default."),
    ("daemon.node-credentials", "A cache is opened by the machine's own credentials."),
    ("daemon.ready-timeout", "A slow disk, or a large image, is not ready in time."),
    ("daemon.copy-threads", "A disk that many threads slow down."),
    ("daemon.durability", "A power cut must cost nothing at all, and builds may be slower for it."),
    ("daemon.checkpoint-interval", "After a power cut the start verifies for too long."),
    ("daemon.max-processes", "A build fails with \"resource temporarily unavailable\"."),
    ("daemon.max-jobs", "Builds are killed for memory side by side; or are small, and more would fit."),
    ("daemon.cores", "The same, within one build."),
    ("daemon.substituters", "Caches cannot be reached (an empty list), or only your own may be used."),
    ("daemon.extra-substituters", "Your own cache, besides Nix's."),
    ("daemon.trusted-public-keys", "It signs with a key of its own."),
    ("daemon.trusted-users", "Almost never: see what it gives away."),
    ("daemon.proxy", "The network is reached by a proxy only."),
    ("daemon.no-proxy", "Some hosts are reached without it."),
    ("daemon.ca-bundle", "A proxy or cache has a certificate of your own authority."),
    ("daemon.nix", "Nix has a setting for it, and nothing else here says it."),
    ("user.authorized-keys", "Somebody else, or a machine, is to come in."),
    ("user.keep-jobs", "Results are collected too soon, or too late."),
    ("user.keep-jobs-for", "The same, by time."),
    ("user.max-running-jobs", "Many people share the builder."),
    ("user.keep-generations", "You go back to older pushes."),
    ("user.max-processes", "Tools in a shell fail with \"resource temporarily unavailable\"."),
    ("shutdown.idle-timeout", "Starts cost you more than an idle pod (longer), or the other way round."),
    ("shutdown.grace", "Nodes must be free sooner, or builds run longer than that."),
    ("shutdown.max-lifetime", "Nodes are drained for upgrades, and builds run for days."),
    ("shutdown.protocol-timeout", "Evaluation on the other machine takes longer."),
    ("shutdown.keep-up", "Nobody should wait for a start in working hours."),
    ("shutdown.time-zone", "Those hours are not UTC's."),
    ("maintenance.interval", "The store fills faster, or collections disturb."),
    ("maintenance.schedule", "Collections are to run at night."),
    ("maintenance.optimise", "Links cost more than they save: a file system that shares blocks itself."),
    (
        "maintenance.verify",
        "A disk that you trust less (sooner), or that is slow and checks itself (\"never\").",
    ),
    ("maintenance.collect-below", "Large closures come at once, and the disk is small."),
    ("maintenance.refuse-below", "Builds are refused too early, or hit a full disk."),
    ("maintenance.grace-window", "What is copied in is used hours later."),
    ("maintenance.profiles-older-than", "Old generations of profiles fill the disk, or are needed."),
    (
        "maintenance.auto-roots-max-age",
        "Forgotten `result` links keep too much, or one of yours went too soon.",
    ),
    ("log.level", "Something does not do what it should: \"debug\" says why."),
    ("log.format", "Logs go into a program that reads JSON."),
    ("metrics.listen", "Prometheus, or whatever reads its format, is to watch the builder."),
];

#[cfg(test)]
mod tests {
    use super::super::options;
    use super::*;

    #[test]
    fn every_option_says_when_to_change_it() {
        let missing: Vec<String> = options().map(|o| o.path()).filter(|path| when(path).is_none()).collect();
        assert_eq!(missing, [""; 0], "each needs a line in config/when.rs");
    }

    #[test]
    fn no_line_is_of_an_option_that_is_gone() {
        let used = |name: &str| {
            options().any(|o| o.path() == name || (o.key == name && o.table.starts_with("builder.")))
        };
        let unused: Vec<_> = WHEN.iter().map(|(name, _)| *name).filter(|name| !used(name)).collect();
        assert_eq!(unused, [""; 0], "take them out of config/when.rs");
    }
}
