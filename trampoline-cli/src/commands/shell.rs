//! `shell`: a prompt, or one command, in the pushed tree.

use std::ffi::OsString;
use std::io::IsTerminal;

use clap::Args;
use contract::places::Container;

use crate::cli::Global;
use crate::context::Context;
use crate::error::Result;
use crate::remote;
use crate::wake::{self, USER_INIT};

/// A prompt in the builder, or one command
///
/// Starts in the tree that was last pushed from this checkout, else in the home folder. Ends with the command's exit code.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli shell                     a prompt
  trampoline-cli shell -- nix-store --gc --print-roots
  echo 'ls -l' | trampoline-cli shell      commands from a pipe")]
pub(crate) struct Shell {
    /// What to run, as it is; no shell in between
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// Start in this project's tree
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

impl Shell {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::running(&context).await?;
        let mut argv: Vec<OsString> = [USER_INIT, "session", "--kind", "exec"].map(OsString::from).to_vec();
        if let Some(project) = &self.project {
            argv.extend(["--project", project].map(OsString::from));
        } else if let Some(tree) = remote::tree_here(&context).await? {
            argv.extend(["--project".to_owned(), tree.project].map(OsString::from));
            if let Some(generation) = tree.generation {
                argv.extend(["--generation".to_owned(), generation.to_string()].map(OsString::from));
            }
        }
        if !self.command.is_empty() {
            argv.push("--".into());
            argv.extend(self.command.iter().cloned());
        }
        let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let context = &context;
        let argv = &argv;
        let code = wake::retrying(context, || async move {
            context.engine.attach(&context.name, Container::User, argv, tty).await
        })
        .await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}
