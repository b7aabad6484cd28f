//! `config apply`: trampoline.toml, into the builder as it is.

use contract::config::option;
use contract::exit::Exit;
use contract::handshake::{AgentStatus, BuilderStatus};
use contract::places::USER_INIT;

use crate::context::Context;
use crate::engine::{Observed, PodPhase};
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::lines::{self, Telling};
use crate::render::diff::Difference;
use crate::render::{CONFIG_KEY, Rendering, diff, digest};
use crate::settings::owner;
use crate::{prepare, remote, wake};

/// Ships the file, and waits until the agents of a builder that runs have read it.
pub(super) async fn apply(global: &Global) -> Result<u8> {
    let context = Context::new(global)?;
    let lock = context.state.lock(context.ui).await?;
    let observed = context.engine.observe(&context.name).await?;
    if !observed.exists() {
        return Err(wake::absent(&context));
    }
    if let Some(other) = observed.owner.clone().filter(|other| *other != owner()) {
        return Err(CliError::new(Exit::InUse, format!("builder {} belongs to {other}", context.name)).hint(
            format!("{other} can apply it; `trampoline-cli --name OTHER setup` makes a builder of your own"),
        ));
    }
    let (rendering, _) = prepare::rendering(&context, &observed).await?;
    let before = context.state.read::<Rendering>(prepare::RENDERING);
    let changes = changes(&context, &observed, &rendering, before.as_ref()).await?;
    for change in &changes {
        context.ui.say(format!("changes {change}"));
    }
    context.engine.write_config(&rendering).await?;
    if let Some(before) = before {
        // The pod is still the one that it was.
        let now = Rendering { files: rendering.files.clone(), ..before };
        context.state.write(prepare::RENDERING, &now)?;
    }
    drop(lock);
    let digest = digest(rendering.files.get(CONFIG_KEY).map_or("", String::as_str).as_bytes());
    let runs = observed.phase() == PodPhase::Running
        && match taken(&context, &digest).await {
            Ok(()) => true,
            Err(error) if error.exit == Exit::Config => return Err(error),
            Err(error) => {
                // It may have stopped meanwhile, be it for what was applied.
                let stops = error.exit == Exit::Stopping;
                if !stops && context.engine.observe(&context.name).await?.phase() == PodPhase::Running {
                    return Err(error);
                }
                false
            }
        };
    if context.ui.json {
        context.ui.object(&serde_json::json!({
            "name": context.name,
            "config": digest,
            "in_force": runs,
            "changes": changes,
        }))?;
    } else if runs {
        context.ui.say(format!("builder {} runs with it ({digest})", context.name));
    } else {
        context.ui.say(format!("builder {} reads it when it starts ({digest})", context.name));
    }
    Ok(0)
}

/// Key by key, with when each counts if nobody runs `setup`.
async fn changes(
    context: &Context,
    observed: &Observed,
    new: &Rendering,
    before: Option<&Rendering>,
) -> Result<Vec<Difference>> {
    let known = if observed.containers.is_empty() { None } else { context.engine.differences(new).await? };
    let mut found = match (known, before) {
        (Some(known), _) => known,
        (None, Some(before)) => diff::config(before, &context.settings.config),
        (None, None) => Vec::new(),
    };
    found.retain_mut(|change| match option(&change.what) {
        Some(option) => {
            change.when = option.effect.when();
            true
        }
        // Of a text in which no key has another value, and of certificates.
        None => change.when == "at once",
    });
    Ok(found)
}

/// Waits in the pod until each agent has taken or refused it.
async fn taken(context: &Context, digest: &str) -> Result<()> {
    let mut step = context.ui.step("the builder's agents read it");
    let mut telling = Telling::start(context, &[USER_INIT, "await", "--config", digest], b"").await?;
    let mut last: Option<BuilderStatus> = None;
    while let Ok(Some(line)) = telling.next().await {
        let status: BuilderStatus = lines::read(line.as_bytes(), "the builder's status")?;
        let left: Vec<&str> =
            status.agents.iter().filter(|agent| agent.config != digest).map(|agent| &*agent.agent).collect();
        if !left.is_empty() {
            step.at(&format!("{} to come", left.join(", ")));
        }
        last = Some(status);
    }
    let (code, words) = telling.finish().await?;
    step.clear();
    let refused = |agent: &&AgentStatus| agent.config != digest && agent.refuses();
    if let Some(agent) = last.iter().flat_map(|status| &status.agents).find(refused) {
        let why = agent.config_note.as_deref().unwrap_or_default();
        return Err(CliError::new(Exit::Config, format!("{} has {why}", agent.agent))
            .hint("what was in force before stays so; an image of another version may not know an option: `trampoline-cli setup`"));
    }
    if code == 0 {
        return Ok(());
    }
    let output = crate::engine::Output { code, stdout: Vec::new(), stderr: words };
    Err(remote::failed(
        "the builder has the new configuration, and not all of its agents have read it",
        &output,
    )
    .hint("`trampoline-cli status` shows which one each runs with"))
}
