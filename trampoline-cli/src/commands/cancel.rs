//! `cancel`: end a build.

use clap::Args;
use contract::job::{FollowEvent, JobState};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::jobs;
use crate::lines;

/// End a build, and wait until it has ended
///
/// Whoever follows it sees it end. What it has built so far stays. One that has ended already is left as it is.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli cancel 12
  trampoline-cli jobs                      lists them")]
pub(crate) struct Cancel {
    /// Number of the build, as `jobs` shows it
    #[arg(value_name = "BUILD")]
    id: String,
}

impl Cancel {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let ui = context.ui;
        let id = &self.id;
        let step = ui.step(format!("cancelling build {id}"));
        let output = jobs::ask(&context, &["cancel", id, "--wait"], "cannot cancel the build").await?;
        let last = output.stdout.rsplit(|byte| *byte == b'\n').find(|line| !line.is_empty());
        let FollowEvent::End(end) = lines::read(last.unwrap_or_default(), "the build's end")? else {
            return Err(CliError::other_version("cannot read the build's end"));
        };
        match end.state() {
            JobState::Cancelled => step.done(&format!("build {id} was cancelled")),
            other => {
                step.clear();
                ui.say(format!("build {id} had ended before: it is {}", other.name()));
            }
        }
        if ui.json {
            ui.object(&serde_json::json!({ "job": id, "state": end.state(), "code": end.exit_code() }))?;
        }
        Ok(0)
    }
}
