//! Every command that needs a running builder starts it.

mod again;
mod once;
mod ready;

use contract::exit::Exit;

use crate::context::Context;
use crate::engine::{Observed, PodPhase};
use crate::error::{CliError, Result};
use crate::prepare;
use crate::render::Rendering;
use crate::state::Lock;

pub(crate) use again::{again, back, exec, retrying};
pub(crate) use once::{session, uncertain};
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

/// The same for what may run only once: a stop that is under way is waited for before, as far as anybody can know of it.
pub(crate) async fn serving(context: &Context) -> Result<()> {
    if context.engine.is_here() {
        // One that is not let in has not run, and begins again where its input is still there.
        if once::input_stays() && context.engine.observe(&context.name).await?.phase() == PodPhase::Running {
            return Ok(());
        }
        return back(context).await.map(drop);
    }
    // Elsewhere the engine knows of each stop.
    running(context).await.map(drop)
}

/// What every command says where there is no builder.
pub(crate) fn absent(context: &Context) -> CliError {
    CliError::new(Exit::Engine, format!("there is no builder {}", context.name)).hint(
        "`trampoline-cli setup` makes it; `trampoline-cli list` shows those that exist (--name chooses one)",
    )
}

/// Starts it from wherever it stands, which was looked at under the lock, and waits until it is ready; again where it was about
/// to end, which one of its agents had heard of and others not yet.
pub(crate) async fn start(context: &Context, observed: Observed, lock: &Lock) -> Result<Observed> {
    let ran = observed.phase() == PodPhase::Running;
    match start_once(context, observed, lock).await {
        Err(error) if ran && error.exit == Exit::Stopping => {
            let observed = context.engine.wanted(&context.name).await?;
            start_once(context, observed, lock).await
        }
        started => started,
    }
}

async fn start_once(context: &Context, mut observed: Observed, lock: &Lock) -> Result<Observed> {
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
            if observed.lingers {
                context.engine.stopped(&observed).await?;
            }
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
