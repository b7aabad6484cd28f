//! `up`, and the stop that `down` and `setup` share.

use std::time::{Duration, SystemTime};

use clap::Args;

use crate::context::Context;
use crate::engine::{Observed, PodPhase};
use crate::error::Result;
use crate::global::Global;
use crate::wake;

/// Between two looks at what a stop waits for.
const LOOK: Duration = Duration::from_secs(2);

/// Start a stopped builder
///
/// Every command that needs a running builder starts it by itself; this one does nothing else.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli up
  trampoline-cli --name gpu up")]
pub(crate) struct Up {}

impl Up {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let lock = context.state.lock(context.ui).await?;
        let observed = context.engine.wanted(&context.name).await?;
        if !observed.exists() {
            return Err(wake::absent(&context));
        }
        wake::start(&context, observed, &lock).await?;
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "name": context.name, "state": "running" }))?;
        }
        Ok(0)
    }
}

/// Stops the pod and waits for it; says what it waits for. Without the lock somebody may start it again as soon as it has ended.
pub(crate) async fn drain(context: &Context, observed: &Observed, now: bool) -> Result<()> {
    let mut step = context.ui.step(format!("stopping builder {}", context.name));
    let asked = SystemTime::now();
    context.engine.stop(observed).await?;
    if now {
        // Asked twice, agents do not wait for work.
        context.engine.stop(observed).await?;
    }
    let mut told = observed.clone();
    let stopped = context.engine.stopped(observed);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            result = &mut stopped => { result?; break; }
            () = tokio::time::sleep(LOOK) => {
                let Some(known) = context.engine.stop_revived(told, asked).await? else {
                    step.done(&format!("builder {} has stopped, and was started again since", context.name));
                    return Ok(());
                };
                told = known;
                if let Some(work) = waits_for(context).await {
                    step.at(&format!("waiting for {work} (`down --now` does not wait)"));
                }
            }
        }
    }
    let after = context.engine.observe(&context.name).await?;
    match after.failed().filter(|_| after.phase() == PodPhase::Stopped) {
        Some(failed) => {
            step.clear();
            context
                .ui
                .warn(format!("the {} container ended with exit code {}", failed.name, failed.exit_code));
        }
        None => step.done(&format!("builder {} has stopped", context.name)),
    }
    Ok(())
}

async fn waits_for(context: &Context) -> Option<String> {
    let status = wake::status(context).await.ok().flatten()?;
    let builds = status.drain.map_or(0, |drain| drain.builds);
    let jobs = status.user.as_ref().map_or(0, |user| user.jobs.len());
    let sessions = status.user.as_ref().map_or(0, |user| user.sessions.len());
    let parts: Vec<String> =
        [(u64::from(builds), "build"), (jobs as u64, "job"), (sessions as u64, "session")]
            .into_iter()
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}{}", if count == 1 { "" } else { "s" }))
            .collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}
