//! The options of the pod.

use crate::config::check::Text;
use crate::config::option::{Effect, Kind, Opt, Reader, Word, field};
use crate::config::types::Engine;
use crate::config::units::Size;

/// The four options of a container's resources.
macro_rules! limits {
    ($table:literal, $field:ident, $least:expr) => {
        [
            Opt {
                table: $table,
                key: "memory",
                kind: Kind::Size($least),
                example: "",
                doc: "Most memory that the container may use.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.memory),
            },
            Opt {
                table: $table,
                key: "cpus",
                kind: Kind::Cpus,
                example: "",
                doc: "Most CPUs that the container may use.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.cpus),
            },
            Opt {
                table: $table,
                key: "memory-request",
                kind: Kind::Size(Size::mib(1)),
                example: "",
                doc: "Memory that a cluster sets aside for the container. Not above `memory`.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.memory_request),
            },
            Opt {
                table: $table,
                key: "cpu-request",
                kind: Kind::Cpus,
                example: "",
                doc: "CPUs that a cluster sets aside for the container. Not above `cpus`.",
                readers: &[Reader::Client],
                effect: Effect::Setup,
                field: field!(builder.$field.cpu_request),
            },
        ]
    };
}

pub(super) static BUILDER: [Opt; 10] = [
    Opt {
        table: "builder",
        key: "name",
        kind: Kind::Text(Text::Name),
        example: "\"my-builder\"",
        doc: "Names the pod, its volumes and the SSH alias. Builders of different names share nothing. Not set: \
              made from your user name.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.name),
    },
    Opt {
        table: "builder",
        key: "engine",
        kind: Kind::Word(Engine::NAMES),
        example: "",
        doc: "What runs the pod.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.engine),
    },
    Opt {
        table: "builder",
        key: "image",
        kind: Kind::Text(Text::Image),
        example: "",
        doc: "Image of all containers of the pod. Where it is missing, `setup` pulls or builds it.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.image),
    },
    Opt {
        table: "builder",
        key: "system",
        kind: Kind::Text(Text::System),
        example: "\"x86_64-linux\"",
        doc: "The platform that the builder must be of, as Nix names it. Not set: that of the image.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.system),
    },
    Opt {
        table: "builder",
        key: "system-features",
        kind: Kind::List(Text::Feature),
        example: "",
        doc: "What builds may ask for by `requiredSystemFeatures`, besides Nix's own list. With \"kvm\" the builder \
              starts only where builds can open /dev/kvm: it is never emulated. A privileged pod has the device of \
              its machine; others get it by `kvm-resource` under [kubernetes].",
        readers: &[Reader::Client, Reader::Daemon],
        effect: Effect::Restart,
        field: field!(builder.system_features),
    },
    Opt {
        table: "builder",
        key: "project",
        kind: Kind::Text(Text::Project),
        example: "\"my-project\"",
        doc: "Name under which this checkout is pushed. Not set: the name of its top folder.",
        readers: &[Reader::Client],
        effect: Effect::Live,
        field: field!(builder.project),
    },
    Opt {
        table: "builder",
        key: "ssh-port",
        kind: Kind::Int(1, 65535),
        example: "2222",
        doc: "Port of the builder's sshd on 127.0.0.1 of this machine. Not set: a free one, which is kept.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.ssh_port),
    },
    Opt {
        table: "builder",
        key: "store-size",
        kind: Kind::Size(Size::mib(256)),
        example: "",
        doc: "Size of the volume for the Nix store.",
        readers: &[Reader::Client, Reader::User, Reader::Maintenance],
        effect: Effect::Setup,
        field: field!(builder.store_size),
    },
    Opt {
        table: "builder",
        key: "home-size",
        kind: Kind::Size(Size::mib(64)),
        example: "",
        doc: "Size of the volume for pushed sources, logs of builds and the user's home.",
        readers: &[Reader::Client],
        effect: Effect::Setup,
        field: field!(builder.home_size),
    },
    Opt {
        table: "builder",
        key: "build-size",
        kind: Kind::Size(Size::mib(64)),
        example: "",
        doc: "Size of the volume in which builds work, so that none can fill that of the store. It is empty at each start. Where \
              the storage enforces no size, `status` says what builds take of it.",
        readers: &[Reader::Client, Reader::Daemon],
        effect: Effect::Setup,
        field: field!(builder.build_size),
    },
];

pub(super) static BUILDER_DAEMON: [Opt; 4] = limits!("builder.daemon", daemon, Size::mib(512));

pub(super) static BUILDER_USER: [Opt; 4] = limits!("builder.user", user, Size::mib(256));

pub(super) static BUILDER_MAINTENANCE: [Opt; 4] = limits!("builder.maintenance", maintenance, Size::mib(16));

pub(super) static BUILDER_SHUTDOWN_MONITOR: [Opt; 4] =
    limits!("builder.shutdown-monitor", shutdown_monitor, Size::mib(16));
