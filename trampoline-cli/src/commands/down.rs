//! `down`: stop, and keep everything.

use clap::Args;

use crate::commands::up;
use crate::context::Context;
use crate::engine::PodPhase;
use crate::error::Result;
use crate::global::Global;
use crate::wake;

/// Stop the builder; its store and your files stay
///
/// Running builds are waited for, new ones are refused meanwhile.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli down
  trampoline-cli down --now                end running builds")]
pub(crate) struct Down {
    /// Do not wait for running builds
    #[arg(long)]
    now: bool,
}

impl Down {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        // Without the lock: a start that hangs must not keep anybody from stopping it.
        let observed = context.engine.observe(&context.name).await?;
        match observed.phase() {
            PodPhase::Absent if !observed.exists() => return Err(wake::absent(&context)),
            PodPhase::Absent | PodPhase::Stopped | PodPhase::Broken => {
                context.ui.say(format!("builder {} does not run", context.name));
            }
            PodPhase::Running | PodPhase::Starting | PodPhase::Stopping => {
                up::drain(&context, &observed, self.now).await?;
                context.ui.say("its store stays; the next command that needs it starts it again");
            }
        }
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "name": context.name, "state": "stopped" }))?;
        }
        Ok(0)
    }
}
