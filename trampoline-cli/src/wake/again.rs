//! What came too early or too late is done again, by a builder that serves.

use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::handshake::{BuilderStatus, Phase, StopEnd, StopPhase};
use contract::places::Container;

use super::{absent, ready, running, start, status};
use crate::context::Context;
use crate::engine::{Observed, Output, PodPhase, may_be_a_refusal};
use crate::error::{CliError, Result};

/// A container that has ended and yet is said to run is looked at so often.
const LOOKS: u32 = 5;
/// A cluster's stop that no pod has heard of is carried out, or called off, by then.
const DECISION: Duration = Duration::from_secs(60);

/// Where a builder stands for somebody whom it has refused.
#[derive(Debug)]
pub(super) enum Way {
    /// No container serves.
    Gone,
    /// It takes nothing any more.
    Leaves(Box<Observed>),
    /// It takes nothing, but may be told to stay.
    Undecided,
    /// It does not serve yet, or does not say how it is.
    Starts,
    Serves,
}

impl Way {
    /// Of a pod that runs, by what it publishes; none: its agents are about to end.
    fn of(status: &BuilderStatus, observed: Observed) -> Option<Self> {
        let agents = || [Container::Daemon, Container::User].into_iter().filter_map(|of| status.agent(of));
        let stop = status.stop.as_ref().filter(|stop| stop.phase == StopPhase::Final);
        if status.drain.is_some() || agents().any(|agent| agent.phase == Phase::Draining) {
            return Some(Self::Leaves(Box::new(observed)));
        }
        match stop.map(|stop| stop.end) {
            Some(StopEnd::Leave) => Some(Self::Leaves(Box::new(observed))),
            Some(StopEnd::AwaitSignal) => Some(Self::Undecided),
            None if status.is_served() => Some(Self::Serves),
            None if agents().any(|agent| agent.phase == Phase::Ended) => None,
            None => Some(Self::Starts),
        }
    }
}

/// Asks engine and pod, again where the pod has ended between the two questions.
pub(super) async fn look(context: &Context) -> Result<Way> {
    for last in (0..LOOKS).rev() {
        let (observed, status) = tokio::join!(context.engine.observe(&context.name), status(context));
        let observed = observed?;
        if observed.phase() != PodPhase::Running {
            return if observed.exists() { Ok(Way::Gone) } else { Err(absent(context)) };
        }
        if let Some(way) = status?.and_then(|status| Way::of(&status, observed)) {
            return Ok(way);
        }
        if last > 0 {
            context.engine.changed(&context.name).await?;
        }
    }
    // Whoever waits for it to be ready is told what is wrong with it.
    Ok(Way::Starts)
}

/// Waits for the end of a stop or start that is under way and starts the builder if need be: it serves now. False: it did before.
pub(crate) async fn back(context: &Context) -> Result<bool> {
    let deadline = Instant::now() + DECISION;
    let mut waited = false;
    loop {
        match look(context).await? {
            Way::Serves => return Ok(waited),
            Way::Gone => {
                running(context).await?;
                return Ok(true);
            }
            Way::Starts => {
                ready(context, &format!("reaching builder {}", context.name)).await?;
                return Ok(true);
            }
            Way::Leaves(_) => {
                after_the_stop(context).await?;
                return Ok(true);
            }
            Way::Undecided if Instant::now() >= deadline => {
                return Err(CliError::new(
                    Exit::Stopping,
                    format!("builder {} is stopping, and nobody ends it", context.name),
                )
                .hint("`trampoline-cli logs shutdown-monitor` shows what it waits for"));
            }
            Way::Undecided => {
                waited = true;
                context.engine.changed(&context.name).await?;
            }
        }
    }
}

async fn after_the_stop(context: &Context) -> Result<()> {
    let lock = context.state.lock(context.ui).await?;
    // Whoever had the lock before may have started it again, and the end of that life is none of ours.
    if let Way::Leaves(observed) = look(context).await? {
        let step = context
            .ui
            .step(format!("builder {} is stopping; waiting for it to start it again", context.name));
        context.engine.stopped(&observed).await?;
        step.clear();
    }
    let observed = context.engine.wanted(&context.name).await?;
    start(context, observed, &lock).await.map(drop)
}

/// Whether a command of ours that ended with this code only came too early or too late; if so, the builder serves now. For
/// commands that do no harm if they are done twice.
pub(crate) async fn again(context: &Context, code: i32) -> Result<bool> {
    if may_be_a_refusal(code) { back(context).await } else { Ok(false) }
}

/// Runs a command of ours in the builder; where that meets a start or a stop, waits for its end and tries again, once. It must
/// do no harm if it is done twice.
pub(crate) async fn retrying<F>(context: &Context, mut run: impl FnMut() -> F) -> Result<i32>
where
    F: Future<Output = Result<i32>>,
{
    let code = run().await?;
    if again(context, code).await? { run().await } else { Ok(code) }
}

/// The same for a command that is read to its end.
pub(crate) async fn exec(context: &Context, argv: &[&str], input: &[u8]) -> Result<Output> {
    let output = context.engine.exec(&context.name, Container::User, argv, input).await?;
    if again(context, output.code).await? {
        return context.engine.exec(&context.name, Container::User, argv, input).await;
    }
    Ok(output)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(text: &serde_json::Value) -> String {
        let status = serde_json::from_value(text.clone()).expect("a status");
        let way = Way::of(&status, Observed::default());
        way.map_or("ends".to_owned(), |way| {
            format!("{way:?}").split('(').next().unwrap_or_default().to_owned()
        })
    }

    #[test]
    fn whether_a_builder_leaves_is_what_it_publishes() {
        let agent = |name: &str, phase: &str| serde_json::json!({ "life": "b:1", "agent": name, "phase": phase, "message": "", "at": 1, "version": "" });
        let user = Container::User.agent();
        let with = |key: &str, value: serde_json::Value| {
            let mut status = serde_json::json!({
                "life": "b:1", "agents": [agent(user, "running")], "daemon": null, "user": null, "idle": null,
                "stop": null, "drain": null, "store": null, "pids_limit": null,
                "ready": { "life": "b:1", "pid": 1, "start_time": 1, "store_id": "s", "nix_version": "2", "image": "i", "at": 1 },
            });
            status[key] = value;
            way(&status)
        };
        let stop = |phase: &str, end: &str| {
            serde_json::json!({
                "life": "b:1", "generation": 1, "phase": phase, "end": end, "reason": "idle", "last_activity": 0,
            })
        };
        assert_eq!(with("store", serde_json::Value::Null), "Serves");
        assert_eq!(with("ready", serde_json::Value::Null), "Starts");
        let drain = serde_json::json!({ "life": "b:1", "drained": false, "builds": 0, "deadline": 0 });
        assert_eq!(with("drain", drain), "Leaves");
        // The signal reaches one container before another.
        assert_eq!(with("agents", serde_json::json!([agent(user, "draining")])), "Leaves");
        assert_eq!(with("agents", serde_json::json!([agent(user, "ended")])), "ends");
        assert_eq!(with("stop", stop("ask", "leave")), "Serves", "whoever asks now waits inside");
        assert_eq!(with("stop", stop("final", "leave")), "Leaves");
        assert_eq!(with("stop", stop("final", "await-signal")), "Undecided");
    }
}
