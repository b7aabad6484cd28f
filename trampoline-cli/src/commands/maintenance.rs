//! `maintenance`: collect garbage now.

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use contract::config::{DURATION_FORM, SIZE_FORM, Size, parse_duration};
use contract::places::{Container, DAEMON_INIT, MAINTENANCE_AGENT};

use crate::context::Context;
use crate::engine::Entry;
use crate::error::Result;
use crate::global::Global;
use crate::wake;

/// Collect garbage and link identical files, now
///
/// What the schedule does as well. Spares what builds, jobs and last results need.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli maintenance --dry-run     say what would go
  trampoline-cli maintenance
  trampoline-cli maintenance --older-than 7d --max-freed 5Gi
  trampoline-cli maintenance --verify      read the whole store, and repair what the disk has lost
  trampoline-cli maintenance --accept-home after `status` has said that this home is not the store's")]
pub(crate) struct Maintenance {
    /// Delete nothing
    #[arg(long)]
    dry_run: bool,
    /// Stop when so much is free again, e.g. 5Gi
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with_all = ["dry_run", "verify"])]
    max_freed: Option<Size>,
    /// Delete only what came into the store so long ago, in place of `grace-window` under [maintenance]; with 0s also what has just
    /// come in
    #[arg(long, value_name = "DURATION", value_parser = duration, conflicts_with = "verify")]
    older_than: Option<Duration>,
    /// Collect nothing, but read the whole store: what is not what was registered is fetched again where a substituter has it, else
    /// removed, and named
    #[arg(long, conflicts_with_all = ["dry_run", "accept_home"])]
    verify: bool,
    /// The home volume is the right one for this store, though it is not the one that the store has known: collect again
    #[arg(long, conflicts_with = "dry_run")]
    accept_home: bool,
}

fn size(text: &str) -> std::result::Result<Size, String> {
    Size::parse(text).ok_or_else(|| format!("not {SIZE_FORM}"))
}

fn duration(text: &str) -> std::result::Result<Duration, String> {
    parse_duration(text).ok_or_else(|| format!("not {DURATION_FORM}"))
}

impl Maintenance {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::running(&context).await?;
        if self.accept_home {
            let accept: Vec<OsString> = [DAEMON_INIT, "accept-home"].map(OsString::from).to_vec();
            let (context, accept) = (&context, &accept);
            let code = wake::retrying(context, || async move {
                context.engine.attach(&context.name, Container::Daemon, accept, false, Entry::Unasked).await
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
        if let Some(size) = self.max_freed {
            argv.extend(["--max-freed".into(), format!("{}B", size.bytes()).into()]);
        }
        if let Some(age) = self.older_than {
            argv.extend(["--older-than".into(), format!("{}s", age.as_secs()).into()]);
        }
        if self.verify {
            argv.push("--verify".into());
        }
        if context.ui.json {
            argv.push("--json".into());
        }
        let (context, argv) = (&context, &argv);
        let code = wake::retrying(context, || async move {
            context.engine.attach(&context.name, Container::Maintenance, argv, false, Entry::Unasked).await
        })
        .await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}
