//! Every command that needs a running builder starts it.

mod ready;

use contract::exit::Exit;
use contract::handshake::{BuilderStatus, StopPhase};
use contract::places::Container;

use crate::context::Context;
use crate::engine::{Observed, Output, PodPhase};
use crate::error::{CliError, Result};
use crate::prepare;
use crate::render::Rendering;
use crate::state::Lock;

pub(crate) use ready::{ready, ready_for, status};

/// The builder, running; started or made again if need be.
pub(crate) async fn running(context: &Context) -> Result<Observed> {
    let observed = context.engine.wanted(&context.name).await?;
    if observed.phase() == PodPhase::Running {
        return Ok(observed);
    }
    if !observed.exists() {
        return Err(absent(context));
    }
    let lock = context.state.lock(context.ui).await?;
    let observed = context.engine.wanted(&context.name).await?;
    start(context, observed, &lock).await
}

/// What every command says where there is no builder.
pub(crate) fn absent(context: &Context) -> CliError {
    CliError::new(Exit::Engine, format!("there is no builder {}", context.name)).hint(
        "`trampoline-cli setup` makes it; `trampoline-cli list` shows those that exist (--name chooses one)",
    )
}

/// Starts it from wherever it stands, which was looked at under the lock, and waits until it is ready.
pub(crate) async fn start(context: &Context, mut observed: Observed, lock: &Lock) -> Result<Observed> {
    if let Some(killed) = observed.killed() {
        let (name, what) = (&context.name, &killed.name);
        context.ui.say(format!("the {what} container of builder {name} was killed; starting it again"));
        context.engine.start(name).await?;
        observed = context.engine.observe(name).await?;
    } else if observed.phase() == PodPhase::Stopping {
        let step = context
            .ui
            .step(format!("builder {} is stopping; waiting for it to start it again", context.name));
        context.engine.stopped(&observed).await?;
        step.clear();
        observed = context.engine.observe(&context.name).await?;
    }
    match observed.phase() {
        PodPhase::Running | PodPhase::Starting => {}
        PodPhase::Stopped if port_is_ours(&observed) => {
            context.engine.start(&context.name).await?;
            if context.engine.is_here() {
                ready(context, &format!("starting builder {}", context.name)).await?;
                observed.containers.iter_mut().for_each(|container| container.running = true);
                return Ok(observed);
            }
        }
        PodPhase::Stopped | PodPhase::Broken | PodPhase::Absent if observed.exists() => {
            make_again(context, &observed, lock).await?;
        }
        _ => return Err(absent(context)),
    }
    ready(context, &format!("starting builder {}", context.name)).await?;
    context.engine.observe(&context.name).await
}

/// A stopped pod's port may be somebody else's by now, and podman cannot change a pod's port.
fn port_is_ours(observed: &Observed) -> bool {
    observed.ssh_port.is_none_or(prepare::is_free)
}

/// From its volumes, as it was.
async fn make_again(context: &Context, observed: &Observed, _lock: &Lock) -> Result<()> {
    let taken = !observed.containers.is_empty() && !port_is_ours(observed);
    if taken && context.settings.config.builder.ssh_port.is_none() {
        context.ui.say("the builder's SSH port is taken by another program now; giving it a new one");
    } else if observed.containers.is_empty() {
        context.ui.say(format!(
            "the pod of builder {} is gone, its volumes are there: making it again",
            context.name
        ));
    }
    let saved = context.state.read::<Rendering>(prepare::RENDERING).filter(|_| !taken);
    let rendering = match saved {
        Some(rendering) if prepare::is_free(rendering.ssh_port) => rendering,
        _ => {
            let observed = Observed { ssh_port: None, ..observed.clone() };
            prepare::rendering(context, &observed).await?.0
        }
    };
    context.engine.delete_pod(&context.name).await?;
    context.engine.apply(&rendering, context.ui).await?;
    context.state.write(prepare::RENDERING, &rendering)
}

/// Runs something in the builder; where that meets a start or a stop, waits for its end and tries again, once.
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

/// Whether a command that ended with this code only came too early or too late; if so, the builder is ready now.
pub(crate) async fn again(context: &Context, code: i32) -> Result<bool> {
    // `Stopping`, or podman's own codes for a container that does not run.
    if code != i32::from(Exit::Stopping.code()) && !matches!(code, 125 | 255) {
        return Ok(false);
    }
    let observed = context.engine.observe(&context.name).await?;
    if observed.phase() != PodPhase::Running {
        if !observed.exists() {
            return Err(absent(context));
        }
        running(context).await?;
        return Ok(true);
    }
    let Some(status) = status(context).await? else { return Ok(false) };
    if leaves(&status) {
        let lock = context.state.lock(context.ui).await?;
        let step = context
            .ui
            .step(format!("builder {} is stopping; waiting for it to start it again", context.name));
        context.engine.stopped(&observed).await?;
        step.clear();
        let observed = context.engine.wanted(&context.name).await?;
        start(context, observed, &lock).await?;
        return Ok(true);
    }
    if status.is_served() {
        // Then the code is the command's own.
        return Ok(false);
    }
    ready(context, &format!("reaching builder {}", context.name)).await?;
    Ok(true)
}

fn leaves(status: &BuilderStatus) -> bool {
    status.drain.is_some() || status.stop.as_ref().is_some_and(|stop| stop.phase == StopPhase::Final)
}
