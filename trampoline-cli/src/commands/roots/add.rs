//! `roots add`.

use std::time::Duration;

use clap::Args;
use contract::config::{DURATION_FORM, parse_duration};
use contract::control::Request;
use contract::places::USER_INIT;
use contract::roots::{NewRoot, store_path};

use super::{only_roots, root_name};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::ui::{ago, now};
use crate::{control, remote, wake};

/// Shorter is a slip of the pen, and longer is for ever.
const TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(100 * 365 * 24 * 3600);

const NAMED: &str = "`--as NAME` does; `roots rm NAME` takes it away again";

/// Keep a store path, and all that it needs, under a name
///
/// The same name and path once more changes when it expires.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli roots add result --as release-1.2
  trampoline-cli roots add . --as nightly --ttl 14d        the same, for two weeks
  trampoline-cli roots add /nix/store/…-hello-2.12 --as hello")]
pub(super) struct Add {
    /// A store path; or a link to one in what was pushed from here, `.` for `result`
    #[arg(value_name = "PATH")]
    path: String,
    /// What to call it: letters, digits, `-`, `_` and `.` [default: what `--name` says, where that is no builder]
    #[arg(long = "as", value_name = "NAME", value_parser = root_name)]
    root: Option<String>,
    /// Until it expires; 14d, 12h [default: it stays until it is removed]
    #[arg(long, value_name = "DURATION", value_parser = ttl)]
    ttl: Option<Duration>,
}

fn ttl(text: &str) -> std::result::Result<Duration, String> {
    parse_duration(text)
        .filter(|ttl| TTL.contains(ttl))
        .ok_or_else(|| format!("it is {DURATION_FORM}, a minute at least"))
}

impl Add {
    /// `--name` names a builder. Where there is none of that name, and nothing else says what to call the root, it is the root's.
    pub(super) async fn context(&self, global: &Global) -> Result<Context> {
        let named = Context::new(global);
        if self.root.is_some() {
            return named;
        }
        let root = self.name(global)?;
        // What cannot name a builder names none.
        if let Ok(named) = named
            && named.engine.observe(&root).await?.exists()
        {
            return Err(CliError::usage(format!(
                "{root} is a builder, and nothing says what to call its root"
            ))
            .hint(NAMED));
        }
        let context = Context::new(&Global { name: None, ..global.clone() })?;
        context.ui.say(format!(
            "there is no builder {root}: that is what the root is called, in builder {}",
            context.name
        ));
        Ok(context)
    }

    fn name(&self, global: &Global) -> Result<String> {
        match (&self.root, &global.name) {
            (Some(root), _) => Ok(root.clone()),
            (None, Some(name)) => {
                root_name(name).map_err(|why| CliError::usage(format!("--name {name:?}: {why}")).hint(NAMED))
            }
            (None, None) => Err(CliError::usage("nothing says what to call the root").hint(NAMED)),
        }
    }

    pub(super) async fn run(&self, context: &Context, global: &Global) -> Result<()> {
        let name = self.name(global)?;
        let path = match store_path(self.path.as_ref(), |_| None) {
            Some(path) => path,
            None => self.pushed(context).await?,
        };
        let new = NewRoot { name, path, ttl: self.ttl.map(|ttl| ttl.as_secs()) };
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
