//! `logs`: what a container wrote.

mod build;
mod previous;

use clap::{Args, ValueEnum};
use contract::places::Container;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::wake;

/// Show the log of a container, or of a build
///
/// Never starts the builder, and does not count as activity.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli logs                      the daemon's
  trampoline-cli logs user -f              follow user-init's
  trampoline-cli logs maintenance --tail 20
  trampoline-cli logs user --previous      what user-init logged before the builder stopped
  trampoline-cli logs 12 -f                of build 12, as it grows; `jobs` lists them
  trampoline-cli logs 12 --json            Nix's own log of it, byte for byte")]
pub(crate) struct Logs {
    /// Whose: daemon, user, maintenance or shutdown-monitor, or a build by its number
    #[arg(value_name = "CONTAINER|BUILD", default_value = "daemon")]
    of: Of,
    /// Go on as it grows
    #[arg(long, short)]
    follow: bool,
    /// The last lines only
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
    /// What its agent logged in the builder's last life but this one, the last MiB of it: kept on the store volume, also
    /// when the pod is gone. In a cluster only a builder that runs can show it
    #[arg(long, conflicts_with = "follow")]
    previous: bool,
}

/// A container, or a build: no container's name begins with a digit.
#[derive(Clone)]
enum Of {
    Container(Container),
    Build(String),
}

impl std::str::FromStr for Of {
    type Err = String;

    fn from_str(word: &str) -> std::result::Result<Self, String> {
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Self::Build(word.to_owned()));
        }
        let name = Name::from_str(word, false);
        name.map(|name| Self::Container(name.into())).map_err(|_| {
            "it is daemon, user, maintenance, shutdown-monitor or the number of a build".to_owned()
        })
    }
}

/// A container.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Daemon,
    User,
    Maintenance,
    ShutdownMonitor,
}

impl From<Name> for Container {
    fn from(name: Name) -> Self {
        match name {
            Name::Daemon => Self::Daemon,
            Name::User => Self::User,
            Name::Maintenance => Self::Maintenance,
            Name::ShutdownMonitor => Self::ShutdownMonitor,
        }
    }
}

impl Logs {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let container = match &self.of {
            Of::Container(container) => *container,
            Of::Build(id) if self.previous => {
                return Err(CliError::usage(format!("--previous is for containers, and {id} is a build"))
                    .hint(format!("`trampoline-cli logs {id}` shows its log, in whichever life it ran")));
            }
            Of::Build(id) => return build::print(&context, id, self.follow, self.tail).await,
        };
        let observed = context.engine.observe(&context.name).await?;
        if self.previous {
            return previous::print(&context, &observed, container, self.tail).await;
        }
        if observed.containers.is_empty() {
            return Err(if observed.exists() {
                CliError::engine(format!("the pod of builder {} is gone, and its logs with it", context.name))
                    .hint("`logs --previous` shows what is kept on the store volume")
            } else {
                wake::absent(&context)
            });
        }
        let code = context.engine.logs(&context.name, container, self.follow, self.tail).await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}
