//! `logs`: what a container wrote.

use clap::{Args, ValueEnum};
use contract::places::Container;

use crate::cli::Global;
use crate::context::Context;
use crate::error::Result;
use crate::wake;

/// Show the log of a container
///
/// Never starts the builder, and does not count as activity.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli logs                      the daemon's
  trampoline-cli logs user -f              follow user-init's
  trampoline-cli logs maintenance --tail 20")]
pub(crate) struct Logs {
    /// Whose
    #[arg(value_enum, default_value = "daemon")]
    container: Name,
    /// Go on as it grows
    #[arg(long, short)]
    follow: bool,
    /// The last lines only
    #[arg(long, value_name = "LINES")]
    tail: Option<u32>,
}

/// A container.
#[derive(Clone, Copy, ValueEnum)]
enum Name {
    Daemon,
    User,
    Maintenance,
    ShutdownMonitor,
}

impl Logs {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let observed = context.engine.observe(&context.name).await?;
        if observed.containers.is_empty() {
            return Err(if observed.exists() {
                crate::error::CliError::engine(format!(
                    "the pod of builder {} is gone, and its logs with it",
                    context.name
                ))
                .hint("`trampoline-cli up` makes it again from its volumes")
            } else {
                wake::absent(&context)
            });
        }
        let container = match self.container {
            Name::Daemon => Container::Daemon,
            Name::User => Container::User,
            Name::Maintenance => Container::Maintenance,
            Name::ShutdownMonitor => Container::ShutdownMonitor,
        };
        let code = context.engine.logs(&context.name, container, self.follow, self.tail).await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}
