//! Builds of the builder, for whoever asks about them or follows one. None of this starts a builder: one that does not run
//! builds nothing.

mod follow;
mod log;
mod question;

use contract::exit::Exit;
use contract::job::JobInfo;
use contract::places::{Container, USER_INIT};

pub(crate) use follow::{report, to_its_end};
pub(crate) use log::{Log, Piece};

use crate::context::Context;
use crate::engine::{Observed, Output, PodPhase};
use crate::error::{CliError, Result};
use crate::lines;
use crate::remote;
use crate::wake;

/// What to do after an interruption.
const AGAIN: &str = "the same build again starts the builder, and builds what is missing";

/// All that are kept, newest first.
pub(crate) async fn list(context: &Context) -> Result<Vec<JobInfo>> {
    let output = ask(context, &["list"], "cannot list the builds").await?;
    lines::read(&output.stdout, "the list of builds")
}

/// Asks user-init of a builder that runs.
pub(crate) async fn ask(context: &Context, words: &[&str], doing: &str) -> Result<Output> {
    awake(context).await?;
    tell(context, words, doing).await
}

/// The same, of one that is known to run.
pub(crate) async fn tell(context: &Context, words: &[&str], doing: &str) -> Result<Output> {
    let argv: Vec<&str> = [USER_INIT, "job"].iter().chain(words).copied().collect();
    let output = context.engine.exec(&context.name, Container::User, &argv, &[]).await?;
    if output.code == 0 { Ok(output) } else { Err(remote::failed(doing, &output)) }
}

/// Refuses a builder that does not run.
pub(crate) async fn awake(context: &Context) -> Result<()> {
    let observed = context.engine.observe(&context.name).await?;
    let name = &context.name;
    match observed.phase() {
        PodPhase::Running | PodPhase::Stopping => Ok(()),
        // A cluster notes a container that is there again a moment later than it serves.
        PodPhase::Starting if matches!(wake::status(context).await, Ok(Some(status)) if status.is_served()) => {
            Ok(())
        }
        PodPhase::Starting => Err(CliError::new(Exit::Stopping, format!("builder {name} is starting"))
            .hint("`trampoline-cli up` waits until it has")),
        _ if !observed.exists() => Err(wake::absent(context)),
        _ => Err(CliError::new(Exit::Stopping, format!("builder {name} does not run, and builds nothing"))
            .hint("what it has built is kept, and its logs are: `trampoline-cli up` starts it")),
    }
}

/// Why a job that was followed can be followed no longer, if that is for good.
fn gone(context: &Context, observed: &Observed, id: &str) -> Option<CliError> {
    let name = &context.name;
    let how = if let Some(killed) = observed.killed() {
        format!("the {} container of builder {name} was killed", killed.name)
    } else {
        match observed.phase() {
            PodPhase::Running | PodPhase::Starting | PodPhase::Stopping => return None,
            PodPhase::Absent if !observed.exists() => format!("builder {name} was removed"),
            // Who left by himself has ended his jobs, and what came of them did not reach us.
            PodPhase::Stopped if observed.containers.iter().all(|container| container.exit_code == 0) => {
                let what = format!("builder {name} has stopped, and how build {id} ended was not heard");
                return Some(CliError::new(Exit::Stopping, what).hint(AGAIN));
            }
            PodPhase::Stopped => format!("builder {name} was killed"),
            PodPhase::Absent | PodPhase::Broken => format!("the pod of builder {name} is gone"),
        }
    };
    let error = CliError::new(Exit::Stopping, format!("build {id} was interrupted: {how}"));
    Some(error.hint(AGAIN))
}
