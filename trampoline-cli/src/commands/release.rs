//! `release`: a held builder may stop again.

use clap::Args;
use contract::places::USER_INIT;

use crate::context::Context;
use crate::engine::PodPhase;
use crate::error::Result;
use crate::global::Global;
use crate::{remote, wake};

/// End a hold: the builder may stop again when it is idle
///
/// Whoever has set it. Starts nothing: a hold of a builder that does not run counts again once it does.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli release")]
pub(crate) struct Release {}

impl Release {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let observed = context.engine.observe(&context.name).await?;
        if !observed.exists() {
            return Err(wake::absent(&context));
        }
        if observed.phase() == PodPhase::Running {
            let output = wake::exec(&context, &[USER_INIT, "hold", "release"], &[]).await?;
            if output.code != 0 {
                return Err(remote::failed("cannot release the builder", &output));
            }
            context.ui.say(format!("builder {} stops when it is idle", context.name));
        } else {
            context.ui.say(format!("builder {} does not run", context.name));
        }
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "name": context.name, "hold": null }))?;
        }
        Ok(0)
    }
}
