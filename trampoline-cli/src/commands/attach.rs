//! `attach`: follow a build that somebody has started.

use clap::Args;

use crate::commands::jobs::newest_running;
use crate::context::Context;
use crate::error::Result;
use crate::global::Global;
use crate::jobs::{self, Log};

/// Follow a build to its end
///
/// As `build` does: the log from its beginning on stderr, the store paths on stdout, the build's exit code. Of a build that
/// has ended it shows all at once. Any number of clients may follow one build.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli attach                    the newest that runs
  trampoline-cli attach 12
  id=$(trampoline-cli build --detach) && trampoline-cli attach $id")]
pub(crate) struct Attach {
    /// Number of the build, as `jobs` shows it; without it, the newest that runs
    #[arg(value_name = "BUILD")]
    id: Option<String>,
}

impl Attach {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let id = match &self.id {
            Some(id) => {
                jobs::awake(&context).await?;
                id.clone()
            }
            None => newest_running(&context, &jobs::list(&context).await?)?,
        };
        let outcome = jobs::to_its_end(&context, &id, Log::of(&context, &id, true)).await?;
        jobs::report(&context, &id, None, &outcome)
    }
}
