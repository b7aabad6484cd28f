//! The options of the user, of stopping, of maintenance and of logs.

use super::{DAY, YEAR};
use crate::config::check::Text;
use crate::config::option::{Effect, Kind, Opt, Reader, Word, field};
use crate::config::types::{LogFormat, LogLevel};

pub(super) static USER: [Opt; 6] = [
    Opt {
        table: "user",
        key: "authorized-keys",
        kind: Kind::List(Text::SshKey),
        example: "",
        doc: "Public keys that may log in, besides the one of whoever ran `setup`. All keys of a builder are one \
              trust domain.",
        readers: &[Reader::Client, Reader::User],
        effect: Effect::Live,
        field: field!(user.authorized_keys),
    },
    Opt {
        table: "user",
        key: "keep-jobs",
        kind: Kind::Int(1, 10_000),
        example: "",
        doc: "Finished builds of each project whose log is kept and whose result no collection deletes; as many that \
              failed are kept besides.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(user.keep_jobs),
    },
    Opt {
        table: "user",
        key: "keep-jobs-for",
        kind: Kind::DurationOrNever(3600, YEAR),
        example: "",
        doc: "Builds that ended longer ago are not kept, but for the last result of each project. With \"never\", \
              only `keep-jobs` counts.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(user.keep_jobs_for),
    },
    Opt {
        table: "user",
        key: "max-running-jobs",
        kind: Kind::Int(1, 1000),
        example: "",
        doc: "Builds that run at once. Further ones are queued, and begin in the order in which they were asked for.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(user.max_running_jobs),
    },
    Opt {
        table: "user",
        key: "keep-generations",
        kind: Kind::Int(1, 1000),
        example: "",
        doc: "Pushed trees that are kept of each project, the current one included. One in which a build runs or \
              a shell stands is kept in any case.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(user.keep_generations),
    },
    Opt {
        table: "user",
        key: "max-processes",
        kind: Kind::Int(64, 1_000_000),
        example: "",
        doc: "Most processes and threads that the user may have.",
        readers: &[Reader::User],
        effect: Effect::Restart,
        field: field!(user.max_processes),
    },
];

pub(super) static SHUTDOWN: [Opt; 6] = [
    Opt {
        table: "shutdown",
        key: "idle-timeout",
        kind: Kind::DurationOrNever(1, YEAR),
        example: "",
        doc: "The builder stops after so long without a build, a job, a transfer or a command, and in which nothing \
              was typed or printed on a terminal and no process of the user's worked. An open connection alone \
              does not keep it. The next command that needs it starts it again.",
        readers: &[Reader::User, Reader::ShutdownMonitor],
        effect: Effect::Live,
        field: field!(shutdown.idle_timeout),
    },
    Opt {
        table: "shutdown",
        key: "grace",
        kind: Kind::Duration(30, 7 * DAY),
        example: "",
        doc: "When somebody else stops the pod, running builds get so long to end.",
        readers: &[Reader::Client, Reader::Daemon, Reader::User],
        effect: Effect::Setup,
        field: field!(shutdown.grace),
    },
    Opt {
        table: "shutdown",
        key: "max-lifetime",
        kind: Kind::Duration(60, YEAR),
        example: "",
        doc: "Work that goes on without a pause keeps a cluster from evicting the pod, and so a node from being \
              drained, for at most so long.",
        readers: &[Reader::ShutdownMonitor],
        effect: Effect::Live,
        field: field!(shutdown.max_lifetime),
    },
    Opt {
        table: "shutdown",
        key: "protocol-timeout",
        kind: Kind::Duration(1, YEAR),
        example: "",
        doc: "A connection by which Nix itself uses the builder (`ssh-ng://`, `ssh://`) keeps it for so long while it \
              is silent: the machine at its other end may be evaluating.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(shutdown.protocol_timeout),
    },
    Opt {
        table: "shutdown",
        key: "keep-up",
        kind: Kind::Text(Text::Hours),
        example: "\"Mon-Fri 08:00-19:00\"",
        doc: "Hours of the week in which an idle builder is not stopped. They do not start it.",
        readers: &[Reader::ShutdownMonitor],
        effect: Effect::Live,
        field: field!(shutdown.keep_up),
    },
    Opt {
        table: "shutdown",
        key: "time-zone",
        kind: Kind::Text(Text::TimeZone),
        example: "",
        doc: "Of these hours, and of `schedule` under [maintenance].",
        readers: &[Reader::Maintenance, Reader::ShutdownMonitor],
        effect: Effect::Live,
        field: field!(shutdown.time_zone),
    },
];

pub(super) static MAINTENANCE: [Opt; 9] = [
    Opt {
        table: "maintenance",
        key: "interval",
        kind: Kind::DurationOrNever(60, YEAR),
        example: "",
        doc: "Time between two garbage collections, also over stops of the builder. With \"never\", only `trampoline-cli maintenance` collects.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.interval),
    },
    Opt {
        table: "maintenance",
        key: "schedule",
        kind: Kind::Text(Text::Calendar),
        example: "\"Sun 03:00\"",
        doc: "When garbage is collected, in place of `interval`, in the time zone of [shutdown]. What was missed while \
              the builder was stopped is made up for at its next start.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.schedule),
    },
    Opt {
        table: "maintenance",
        key: "optimise",
        kind: Kind::Bool,
        example: "",
        doc: "Link identical files of the store to each other after a collection, when nobody works.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.optimise),
    },
    Opt {
        table: "maintenance",
        key: "verify",
        kind: Kind::DurationOrNever(60, YEAR),
        example: "",
        doc: "Time between two looks at the content of the store, each at as much of it as has everything read within 30 days, \
              when nobody works. What is damaged is fetched again, or removed and named by `status`. With \"never\", only \
              `trampoline-cli maintenance --verify` looks.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.verify),
    },
    Opt {
        table: "maintenance",
        key: "collect-below",
        kind: Kind::Text(Text::Share),
        example: "",
        doc: "With less free on the store's volume than this, in bytes or in inodes, garbage is collected at once. A \
              percentage is one of `store-size`, or of the volume where that is smaller.",
        readers: &[Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.collect_below),
    },
    Opt {
        table: "maintenance",
        key: "refuse-below",
        kind: Kind::Text(Text::Share),
        example: "",
        doc: "With less free than this, in bytes or in inodes, builds and whatever else brings in store paths are \
              refused; what runs goes on, and shells are there for a repair. \"0%\": never. Not above \
              `collect-below`.",
        readers: &[Reader::User, Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.refuse_below),
    },
    Opt {
        table: "maintenance",
        key: "grace-window",
        kind: Kind::Duration(0, YEAR),
        example: "",
        doc: "What came into the store within this time is spared by every collection, whoever starts it: somebody \
              may be about to use it. Only with less free than `refuse-below`, while nothing is built or copied, it \
              goes as well.",
        readers: &[Reader::Daemon, Reader::Maintenance],
        effect: Effect::Live,
        field: field!(maintenance.grace_window),
    },
    Opt {
        table: "maintenance",
        key: "auto-roots-max-age",
        kind: Kind::DurationOrNever(DAY, 100 * YEAR),
        example: "",
        doc: "A `result` link in the home that is older than this keeps nothing any more: before a collection of the \
              builder's own, Nix is made to forget it. The link stays where it is. `trampoline-cli roots ls` lists them.",
        readers: &[Reader::Daemon],
        effect: Effect::Live,
        field: field!(maintenance.auto_roots_max_age),
    },
    Opt {
        table: "maintenance",
        key: "profiles-older-than",
        kind: Kind::DurationOrNever(DAY, 100 * YEAR),
        example: "",
        doc: "Generations of the user's profiles that were no longer current so long ago are removed before a \
              collection of the builder's own, as `nix-env --delete-generations 30d` does it.",
        readers: &[Reader::User],
        effect: Effect::Live,
        field: field!(maintenance.profiles_older_than),
    },
];

pub(super) static LOG: [Opt; 2] = [
    Opt {
        table: "log",
        key: "level",
        kind: Kind::Word(LogLevel::NAMES),
        example: "",
        doc: "The least important lines that are written.",
        readers: Reader::AGENTS,
        effect: Effect::Live,
        field: field!(log.level),
    },
    Opt {
        table: "log",
        key: "format",
        kind: Kind::Word(LogFormat::NAMES),
        example: "",
        doc: "Lines for people, or one JSON object a line.",
        readers: Reader::AGENTS,
        effect: Effect::Live,
        field: field!(log.format),
    },
];
