//! `roots`: what keeps store paths of a builder from collection.

mod add;
mod table;

use clap::{Args, Subcommand};
use contract::control::{Reply, Request};
use contract::roots::{Root, check_name};

use crate::context::Context;
use crate::error::Result;
use crate::global::Global;
use crate::ui::now;
use crate::{control, wake};

use add::Add;

/// Keep store paths in the builder, and see what keeps them
///
/// No collection deletes what a root holds. The results of the last builds have roots of their own, and so has every `result` link in
/// the builder's home.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli roots add result --as release-1.2     what `build` made last of this project
  trampoline-cli roots ls
  trampoline-cli roots rm release-1.2")]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub(crate) struct Roots {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    Ls(Ls),
    Add(Add),
    Rm(Rm),
}

/// List what keeps store paths, and how much each root holds
///
/// ALONE is what a collection would free if only this root went, SHARED what it holds together with others. Sizes are those of the
/// archives, before identical files are linked.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli roots ls
  trampoline-cli roots ls --json | jq -r '.[] | select(.kind == \"link\") | .name'

Kinds: named (roots add), job (results of `build`; they go with the build's log), generation (of a profile), link (made by
somebody's Nix), image, in-use (when the last collection began), other.")]
struct Ls {
    /// Without sizes, for which every path that is alive must be looked at
    #[arg(long)]
    no_sizes: bool,
}

/// Keep a store path no longer
///
/// The next collection deletes what nothing else holds.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli roots rm release-1.2")]
struct Rm {
    /// Its name
    #[arg(value_name = "NAME", value_parser = root_name)]
    root: String,
}

fn root_name(text: &str) -> std::result::Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

impl Roots {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = match &self.action {
            Action::Add(add) => add.context(global).await?,
            Action::Ls(_) | Action::Rm(_) => Context::new(global)?,
        };
        wake::running(&context).await?;
        match &self.action {
            Action::Ls(ls) => ls.run(&context).await?,
            Action::Add(add) => add.run(&context, global).await?,
            Action::Rm(rm) => rm.run(&context).await?,
        }
        Ok(0)
    }
}

impl Ls {
    async fn run(&self, context: &Context) -> Result<()> {
        let ui = context.ui;
        let mut step = ui.step("looking at what the roots hold");
        let request = Request::Roots { sizes: !self.no_sizes };
        let roots = only_roots(control::ask(context, &request, "cannot list the roots", &mut step).await?);
        step.clear();
        if ui.json {
            return ui.object(&roots);
        }
        table::lines(&roots, now()).try_for_each(|line| ui.data(line))
    }
}

impl Rm {
    async fn run(&self, context: &Context) -> Result<()> {
        let mut step = context.ui.step(format!("removing {}", self.root));
        let request = Request::RemoveRoot { name: self.root.clone() };
        control::ask(context, &request, &format!("cannot remove {}", self.root), &mut step).await?;
        step.clear();
        if context.ui.json {
            return context.ui.object(&serde_json::json!({ "name": context.name, "removed": self.root }));
        }
        context.ui.say(format!(
            "builder {} keeps {} no longer; the next collection takes it",
            context.name, self.root
        ));
        Ok(())
    }
}

fn only_roots(answer: Vec<Reply>) -> Vec<Root> {
    let roots = answer.into_iter().filter_map(|reply| match reply {
        Reply::Root(root) => Some(root),
        _ => None,
    });
    roots.collect()
}
