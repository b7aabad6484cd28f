//! The table of all options, in the order of the file.

mod builder;
mod daemon;
mod kubernetes;
mod metrics;
mod user;

use super::option::{Effect, Opt};

const DAY: u64 = 24 * 3600;
const YEAR: u64 = 365 * DAY;

/// A table of the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Table {
    /// Its header, e.g. `builder.daemon`.
    pub name: &'static str,
    /// What it is about.
    pub doc: &'static str,
}

impl Table {
    /// Its options.
    pub fn options(&self) -> impl Iterator<Item = &'static Opt> {
        let name = self.name;
        options().filter(move |option| option.table == name)
    }

    /// When a change counts, for most of its options.
    #[must_use]
    pub fn effect(&self) -> Effect {
        let count = |effect: &Effect| self.options().filter(|option| option.effect == *effect).count();
        [Effect::Live, Effect::Restart, Effect::Setup].into_iter().max_by_key(count).unwrap_or(Effect::Setup)
    }
}

/// All tables but `[daemon.nix]`, which is an option itself.
pub static TABLES: &[Table] = &[
    Table { name: "builder", doc: "The pod, its image and its volumes." },
    Table {
        name: "builder.daemon",
        doc: "Resources of the daemon container, in which everything is built. `setup` lowers a default that \
              the machine cannot meet and says so; a value given here that cannot be met is refused.",
    },
    Table {
        name: "builder.user",
        doc: "Resources of the user container: evaluation, shells and sshd. Lowered and refused like those \
              of the daemon container.",
    },
    Table { name: "builder.maintenance", doc: "Resources of the maintenance container." },
    Table { name: "builder.shutdown-monitor", doc: "Resources of the container that stops an idle builder." },
    Table {
        name: "kubernetes",
        doc: "Where in a cluster the pod runs, and how. Nothing here counts under podman. Tables in the words of \
              the Kubernetes API have its field names.",
    },
    Table { name: "daemon", doc: "The store and its nix-daemon." },
    Table { name: "user", doc: "Who may come in, and what is kept for them." },
    Table { name: "shutdown", doc: "When the builder stops." },
    Table { name: "maintenance", doc: "What keeps the store small." },
    Table { name: "log", doc: "What the agents in the builder write to their logs." },
    Table { name: "metrics", doc: "What monitoring reads of the builder." },
];

/// All options, in the order of [`TABLES`].
pub fn options() -> impl Iterator<Item = &'static Opt> {
    PARTS.iter().copied().flatten()
}

/// The option of this path, e.g. `builder.name`.
#[must_use]
pub fn option(path: &str) -> Option<&'static Opt> {
    let (table, key) = path.rsplit_once('.')?;
    options().find(|option| option.table == table && option.key == key)
}

static PARTS: &[&[Opt]] = &[
    &builder::BUILDER,
    &builder::BUILDER_DAEMON,
    &builder::BUILDER_USER,
    &builder::BUILDER_MAINTENANCE,
    &builder::BUILDER_SHUTDOWN_MONITOR,
    &kubernetes::KUBERNETES,
    &daemon::DAEMON,
    &user::USER,
    &user::SHUTDOWN,
    &user::MAINTENANCE,
    &user::LOG,
    &metrics::METRICS,
];
