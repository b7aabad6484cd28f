//! `ssh-config`: the builder as a host of OpenSSH.

use clap::Args;

use crate::context::Context;
use crate::error::Result;
use crate::global::Global;
use crate::{sshconfig, wake};

/// Make the builder a host of ssh, git, rsync and nix
///
/// Writes a Host block with a pinned host key to ~/.ssh/trampoline/NAME.conf and includes that folder from
/// ~/.ssh/config. Connecting starts a stopped builder. `clean` takes both away again.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli ssh-config                then: ssh alice, rsync -a . alice:src, nix copy --to ssh-ng://alice
  trampoline-cli ssh-config --stdout       print the block, write nothing to ~/.ssh")]
pub(crate) struct SshConfig {
    /// Print the block
    #[arg(long)]
    stdout: bool,
}

impl SshConfig {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::running(&context).await?;
        let file = sshconfig::refresh(&context).await?;
        let block = sshconfig::block(&context)?;
        if self.stdout {
            if context.ui.json {
                context
                    .ui
                    .object(&serde_json::json!({ "host": context.name, "block": block, "file": file }))?;
            } else {
                context.ui.raw(block.as_bytes())?;
            }
            return Ok(0);
        }
        let path = sshconfig::install(&context.name, &block)?;
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "host": context.name, "file": path }))?;
        } else {
            context.ui.say(format!("wrote {}; `ssh {}` connects", path.display(), context.name));
        }
        Ok(0)
    }
}
