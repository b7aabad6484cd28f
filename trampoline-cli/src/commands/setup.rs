//! `setup`: a builder, from nothing or from what is there.

mod changes;

use clap::Args;
use contract::exit::Exit;
use contract::places::USER_INIT;

use crate::commands::{image, up};
use crate::context::Context;
use crate::engine::{Observed, PodPhase, Published, Volume};
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::keys::{self, Keys};
use crate::render::Rendering;
use crate::settings::owner;
use crate::signing;
use crate::{prepare, remote, wake};

use changes::{Changes, show};

/// Make a builder, or bring an existing one up to date
///
/// Makes volumes and pod, waits until the builder is ready and lets your SSH key in. On an existing builder it shows
/// what would change and applies it: the store stays, running builds are waited for.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli setup                     a builder named after you
  trampoline-cli --name gpu setup          another one beside it
  trampoline-cli setup --dry-run           print what podman would be given
  trampoline-cli setup --adopt-store       take over a store that was copied by shell scripts")]
pub(crate) struct Setup {
    /// Print what would be made or changed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the permissions that a cluster's administrator has to give you, and change nothing
    #[arg(long)]
    rbac: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Take over a store volume that has no mark of ours, after its database has been checked
    #[arg(long)]
    adopt_store: bool,
    /// Do not wait for running builds if the pod must be made again
    #[arg(long)]
    now: bool,
}

impl Setup {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let ui = context.ui;
        let engine = &context.engine;
        if self.rbac {
            engine.preflight(ui).await?;
            ui.data(engine.permissions(&context.name)?.trim_end())?;
            return Ok(0);
        }
        // Before the first look: what is seen holds as long as the lock does.
        let lock = if self.dry_run { None } else { Some(context.state.lock(ui).await?) };
        let look = async {
            match self.dry_run {
                true => engine.observe(&context.name).await,
                false => engine.survey(&context.name).await,
            }
        };
        // Questions that do not depend on each other; the engine remembers the last answer for `image::ensure`.
        let image = engine.image_id(&context.settings.config.builder.image);
        let (fine, looked, _) = tokio::join!(engine.preflight(ui), look, image);
        fine?;
        let observed = match looked {
            // What would be made is known without asking anybody.
            Err(error) if self.dry_run => {
                ui.detail(format!("shown as for a builder that does not exist: {error}"));
                Observed { builder: context.name.clone(), unseen: true, ..Observed::default() }
            }
            observed => observed?,
        };
        let somebody = observed.owner.clone().filter(|other| observed.exists() && *other != owner());
        if let (Some(other), false) = (&somebody, self.dry_run) {
            drop(lock);
            return self.add_key_to(&context, other).await;
        }
        let (mut rendering, resolved) = prepare::rendering(&context, &observed).await?;
        if self.dry_run {
            let rebuilt = changes::rebuilt(&context, &observed, &rendering).await?;
            let changes = Changes::between(&context, &observed, &rendering, rebuilt).await?;
            return show(&context, &observed, &rendering, &resolved.notes, &changes);
        }
        resolved.notes.iter().for_each(|note| ui.say(note));
        image::ensure(&context).await?;
        let keys = keys::find(&context.state, ui).await?;
        let mut others = prepare::OTHER_PORTS;
        while let Err(error) = self.bring_about(&context, &observed, &rendering, &keys).await {
            let again = others > 0 && prepare::lost_its_port(&context, &observed, &error);
            let error = undo(&context, &observed, error).await;
            if !again {
                return Err(error);
            }
            others -= 1;
            ui.say(format!("another program has just taken port {}: trying another", rendering.ssh_port));
            rendering = prepare::rendering(&context, &observed).await?.0;
        }
        context.state.write(prepare::RENDERING, &rendering)?;
        let made = if observed.exists() { "up to date" } else { "made" };
        drop(lock);
        ui.detail(format!("let in over SSH: {}", keys.source));
        self.report(&context, made)
    }

    async fn bring_about(
        &self,
        context: &Context,
        observed: &Observed,
        rendering: &Rendering,
        keys: &Keys,
    ) -> Result<()> {
        let engine = &context.engine;
        let ui = context.ui;
        let rebuilt = changes::rebuilt(context, observed, rendering).await?;
        // Asked for, a start of its own says so to the agent.
        let same = !self.adopt_store && changes::is_of(observed, rendering) && rebuilt.is_none();
        let running = same && observed.phase() == PodPhase::Running;
        let served = match &observed.published {
            Published::Read(Some(status)) if running && status.is_served() => Some(status),
            _ => None,
        };
        // Where nothing is to be waited for, whoever is let in need not wait either.
        let let_in = async {
            match served {
                Some(_) => let_in(context, keys).await,
                None => Ok(()),
            }
        };
        let changes = Changes::between(context, observed, rendering, rebuilt);
        let (changes, ()) = tokio::try_join!(changes, let_in)?;
        changes.lines(context, observed, rendering).iter().for_each(|line| ui.say(line));
        match observed.phase() {
            PodPhase::Running | PodPhase::Starting if same && changes.told.is_some() => {
                if changes.told.is_some_and(|told| !told.is_empty()) {
                    engine.announce(rendering).await?;
                    engine.write_config(rendering).await?;
                }
            }
            PodPhase::Running if same => {
                if changes.has_other_files(rendering) {
                    engine.write_config(rendering).await?;
                }
            }
            PodPhase::Stopped if same => {
                engine.announce(rendering).await?;
                engine.write_config(rendering).await?;
                engine.start(&context.name).await?;
            }
            phase => {
                // Whoever starts the next pod, it is the new one.
                if matches!(phase, PodPhase::Running | PodPhase::Starting | PodPhase::Stopping) {
                    engine.announce(rendering).await?;
                }
                if matches!(phase, PodPhase::Running | PodPhase::Stopping) {
                    up::drain(context, observed, self.now).await?;
                }
                if !observed.containers.is_empty() {
                    engine.delete_pod(&context.name).await?;
                }
                if self.adopt_store {
                    engine.apply(&rendering.adopting(), ui).await?;
                } else {
                    engine.apply(rendering, ui).await?;
                }
            }
        }
        if let Some(status) = served {
            return signing::introduce(context, status.keys.as_ref()).await;
        }
        let what = if observed.exists() { "starting builder" } else { "making builder" };
        let status =
            wake::ready_for(context, &format!("{what} {}", context.name), Some(&keys.text())).await?;
        signing::introduce(context, status.keys.as_ref()).await
    }

    /// On a builder that somebody else made, a key is all that we change.
    async fn add_key_to(&self, context: &Context, other: &str) -> Result<u8> {
        let name = &context.name;
        context.ui.say(format!(
            "builder {name} belongs to {other}. Everybody whose key is in it works as the same user there: \
             you could read and change what {other} keeps in it, and the other way round. Store paths that you send are \
             taken on your word."
        ));
        if !self.yes {
            let question = format!("add your keys to builder {name}, and change nothing else?");
            let otherwise =
                "`setup --yes` adds it without asking; `--name OTHER setup` makes a builder of your own";
            if !context.ui.ask(&question, otherwise)? {
                return Err(CliError::new(Exit::InUse, format!("builder {name} belongs to {other}"))
                    .hint("`trampoline-cli --name OTHER setup` makes a builder of your own"));
            }
        }
        wake::running(context).await?;
        let keys = keys::find(&context.state, context.ui).await?;
        let status =
            wake::ready_for(context, &format!("reaching builder {name}"), Some(&keys.text())).await?;
        signing::introduce(context, status.keys.as_ref()).await?;
        context.ui.detail(format!("let in over SSH: {}", keys.source));
        self.report(context, "open to you")
    }

    fn report(&self, context: &Context, made: &str) -> Result<u8> {
        let name = &context.name;
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "name": name, "state": "running", "setup": made }))?;
        } else {
            context.ui.say(format!(
                "builder {name} is {made}; next: `trampoline-cli push-tarball`, `trampoline-cli build`"
            ));
        }
        Ok(0)
    }
}

/// Into a builder that serves.
async fn let_in(context: &Context, keys: &Keys) -> Result<()> {
    let output = wake::exec(context, &[USER_INIT, "keys", "add"], keys.text().as_bytes()).await?;
    if output.code == 0 { Ok(()) } else { Err(remote::failed("cannot add your SSH key", &output)) }
}

/// Nothing half-made stays behind; what was there before does.
async fn undo(context: &Context, before: &Observed, error: CliError) -> CliError {
    if !before.containers.is_empty() {
        return CliError { message: format!("{}\nthe store is untouched", error.message), ..error };
    }
    if let Err(second) = context.engine.remove(&context.name).await {
        context.ui.warn(format!("cannot remove the pod: {second}"));
    }
    let made: Vec<Volume> =
        Volume::ALL.into_iter().filter(|volume| !before.volumes.contains(volume)).collect();
    if let Err(second) = context.engine.delete_volumes(&context.name, &made).await {
        context.ui.warn(format!("cannot remove a volume: {second}"));
    }
    // The logs went with the pod; the last words stand in the message.
    let hint = error.hint.filter(|hint| !hint.contains("trampoline-cli logs"));
    CliError { message: format!("{}\nwhat was made has been removed again", error.message), hint, ..error }
}
