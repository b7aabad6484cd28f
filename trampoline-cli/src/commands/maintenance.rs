//! `maintenance`: collect garbage now.

use std::ffi::OsString;

use clap::Args;
use contract::places::{Container, DAEMON_INIT, MAINTENANCE_AGENT};

use crate::cli::Global;
use crate::context::Context;
use crate::error::Result;
use crate::wake;

/// Collect garbage and link identical files, now
///
/// What the schedule does as well. Spares what builds, jobs and last results need.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli maintenance --dry-run     say what would go
  trampoline-cli maintenance
  trampoline-cli maintenance --accept-home after `status` has said that this home is not the store's")]
pub(crate) struct Maintenance {
    /// Delete nothing
    #[arg(long)]
    dry_run: bool,
    /// The home volume is the right one for this store, though it is not the one that the store has known: collect again
    #[arg(long, conflicts_with = "dry_run")]
    accept_home: bool,
}

impl Maintenance {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::running(&context).await?;
        if self.accept_home {
            let accept: Vec<OsString> = [DAEMON_INIT, "accept-home"].map(OsString::from).to_vec();
            let (context, accept) = (&context, &accept);
            let code = wake::retrying(context, || async move {
                context.engine.attach(&context.name, Container::Daemon, accept, false).await
            })
            .await?;
            if code != 0 {
                return Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX));
            }
        }
        let mut argv: Vec<OsString> = [MAINTENANCE_AGENT, "once"].map(OsString::from).to_vec();
        if self.dry_run {
            argv.push("--dry-run".into());
        }
        if context.ui.json {
            argv.push("--json".into());
        }
        let (context, argv) = (&context, &argv);
        let code = wake::retrying(context, || async move {
            context.engine.attach(&context.name, Container::Maintenance, argv, false).await
        })
        .await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}
