//! `roots`: what keeps store paths of a builder from collection.

mod table;

use std::time::Duration;

use clap::{Args, Subcommand};
use contract::config::{DURATION_FORM, parse_duration};
use contract::control::{Reply, Request};
use contract::places::USER_INIT;
use contract::roots::{NewRoot, Root, check_name, store_path};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::ui::{ago, now};
use crate::{control, remote, wake};

/// Shorter is a slip of the pen, and longer is for ever.
const TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(100 * 365 * 24 * 3600);

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

/// Keep a store path, and all that it needs, under a name
///
/// The same name and path once more changes when it expires.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli roots add result --as release-1.2
  trampoline-cli roots add . --as nightly --ttl 14d        the same, for two weeks
  trampoline-cli roots add /nix/store/…-hello-2.12 --as hello")]
struct Add {
    /// A store path; or a link to one in what was pushed from here, `.` for `result`
    #[arg(value_name = "PATH")]
    path: String,
    /// What to call it: letters, digits, `-`, `_` and `.`
    #[arg(long = "as", value_name = "NAME", value_parser = root_name)]
    root: String,
    /// Until it expires; 14d, 12h [default: it stays until it is removed]
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<Duration>,
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

// `--name` is the builder's.
fn root_name(text: &str) -> std::result::Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

fn ttl(text: &str) -> std::result::Result<Duration, String> {
    parse_duration(text)
        .filter(|ttl| TTL.contains(ttl))
        .ok_or_else(|| format!("it is {DURATION_FORM}, a minute at least"))
}

impl Roots {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::running(&context).await?;
        match &self.action {
            Action::Ls(ls) => ls.run(&context).await?,
            Action::Add(add) => add.run(&context).await?,
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

impl Add {
    async fn run(&self, context: &Context) -> Result<()> {
        let path = match store_path(self.path.as_ref(), |_| None) {
            Some(path) => path,
            None => self.pushed(context).await?,
        };
        let new = NewRoot { name: self.root.clone(), path, ttl: self.ttl.map(|ttl| ttl.as_secs()) };
        let doing = format!("cannot keep {}", new.path);
        let mut step = context.ui.step(format!("keeping {}", new.path));
        let answer = control::ask(context, &Request::AddRoot(new), &doing, &mut step).await?;
        step.clear();
        let Some(root) = only_roots(answer).pop() else {
            return Err(CliError::other_version("the builder does not say what it keeps"));
        };
        if context.ui.json {
            return context.ui.object(&root);
        }
        let until = root.expires.map(|at| format!("; it expires {}", ago(at, now()))).unwrap_or_default();
        let path = root.path.as_deref().unwrap_or_default();
        context.ui.say(format!("builder {} keeps {path} as {}{until}", context.name, root.name));
        Ok(())
    }

    /// Where a path in the tree that was pushed from here leads.
    async fn pushed(&self, context: &Context) -> Result<String> {
        let tree = remote::tree_here(context).await?.filter(|_| !self.path.starts_with('/'));
        let Some(tree) = tree else {
            let path = &self.path;
            return Err(CliError::usage(format!("{path} is not a store path, and not of a pushed project"))
                .hint("name a path below /nix/store, or type this in a checkout that was pushed and built"));
        };
        let generation = tree.generation.map(|number| number.to_string());
        let mut argv = vec![USER_INIT, "store-path", "--project", &tree.project];
        if let Some(generation) = &generation {
            argv.extend(["--generation", generation]);
        }
        argv.push(if self.path == "." { "result" } else { &self.path });
        let output = wake::exec(context, &argv, &[]).await?;
        if output.code != 0 {
            return Err(remote::failed("cannot find what is to be kept", &output)
                .hint("`trampoline-cli build` makes `result` in the tree that it builds"));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
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
