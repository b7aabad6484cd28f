//! `clean`: everything that was made for a builder goes.

use clap::Args;

use crate::commands::up;
use crate::context::Context;
use crate::engine::{PodPhase, Volume};
use crate::error::Result;
use crate::global::Global;
use crate::{prepare, sshconfig};

/// Remove the builder: pod, configuration, SSH entries and, if you say so, its store
///
/// Nothing is removed that trampoline-cli did not make.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli clean                     asks about the store
  trampoline-cli clean --keep-store        `setup` finds it again later
  trampoline-cli clean --delete-store --yes")]
pub(crate) struct Clean {
    /// Keep the volumes of store and home
    #[arg(long, conflicts_with = "delete_store")]
    keep_store: bool,
    /// Remove the volumes of store and home
    #[arg(long)]
    delete_store: bool,
    /// Do not ask; without --delete-store the store is kept
    #[arg(long, short)]
    yes: bool,
    /// Do not wait for running builds
    #[arg(long)]
    now: bool,
}

impl Clean {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let ui = context.ui;
        let (observed, there) = tokio::try_join!(
            context.engine.observe(&context.name),
            context.engine.belongings(&context.name)
        )?;
        let nothing = !observed.exists() && observed.volumes.is_empty() && there.is_empty();
        if nothing && !context.state.dir().exists() && !sshconfig::exists(&context.state)? {
            ui.say(format!("there is no builder {}: nothing to remove", context.name));
            return self.report(&context, false);
        }
        let data = observed.has_store() || there.iter().any(|belonging| belonging.data);
        there
            .iter()
            .filter(|belonging| belonging.data)
            .for_each(|data| ui.say(format!("data: {}", data.what)));
        let delete = self.wants_store_deleted(&context, data)?;
        for belonging in &there {
            let keeps = belonging.data && !delete;
            ui.say(format!("{} {}", if keeps { "keeping" } else { "removing" }, belonging.what));
        }
        let lock = context.state.lock(ui).await?;
        if matches!(observed.phase(), PodPhase::Running | PodPhase::Starting | PodPhase::Stopping) {
            up::drain(&context, &observed, self.now).await?;
        }
        let step = ui.step(format!("removing builder {}", context.name));
        if !observed.containers.is_empty() || !there.is_empty() {
            context.engine.remove(&context.name).await?;
        }
        let gone =
            if delete { Volume::ALL.to_vec() } else { vec![Volume::Build, Volume::Run, Volume::Config] };
        context.engine.delete_volumes(&context.name, &gone).await?;
        sshconfig::remove(&context.name, &context.state)?;
        if delete || !data {
            context.state.remove()?;
        } else {
            // Its generated key is still let in; its pushed trees are still there.
            context.state.forget(prepare::RENDERING)?;
        }
        drop(lock);
        let kept = data && !delete;
        step.done(&if kept {
            format!(
                "builder {} is removed; its store is kept, `trampoline-cli setup` uses it again",
                context.name
            )
        } else {
            format!("builder {} is removed", context.name)
        });
        self.report(&context, kept)
    }

    fn report(&self, context: &Context, kept: bool) -> Result<u8> {
        if context.ui.json {
            context.ui.object(
                &serde_json::json!({ "name": context.name, "state": "absent", "store_kept": kept }),
            )?;
        }
        Ok(0)
    }

    fn wants_store_deleted(&self, context: &Context, has_store: bool) -> Result<bool> {
        if self.delete_store && !self.yes && has_store {
            let question = format!(
                "delete the store and the home of builder {}, with everything built in it?",
                context.name
            );
            return context.ui.ask(&question, "`clean --delete-store --yes` deletes them without asking");
        }
        if self.delete_store || self.keep_store || self.yes || !has_store {
            return Ok(self.delete_store || !has_store);
        }
        let question = format!("delete the store and the home of builder {} as well?", context.name);
        context.ui.ask(&question, "say which: `clean --keep-store` or `clean --delete-store --yes`")
    }
}
