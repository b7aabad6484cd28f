//! `ssh`: a connection through sshd, as other programs make it.

use std::ffi::OsString;

use clap::Args;
use contract::exit::Exit;
use tokio::process::Command;

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::{sshconfig, wake};

/// Show how to connect with ssh, or run a command over it
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli ssh                       print what to type
  trampoline-cli ssh -- nix --version      run a command; ends with its exit code")]
pub(crate) struct Ssh {
    /// What to run; the words are joined and read by a shell, as ssh does
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Ssh {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::running(&context).await?;
        let config = sshconfig::refresh(&context).await?;
        if self.command.is_empty() {
            return print(&context, &config);
        }
        // Its `proxy` waits for a builder that stops, and starts it again.
        let mut ssh = Command::new("ssh");
        ssh.arg("-F").arg(&config).arg(&context.name).arg("--").args(&self.command);
        let status = ssh.status().await.map_err(|error| missing(&error))?;
        let code = wake::uncertain(&context, status.code().unwrap_or(255)).await?;
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}

fn print(context: &Context, config: &std::path::Path) -> Result<u8> {
    let installed = sshconfig::installed(&context.name)?.exists();
    let line = if installed {
        format!("ssh {}", context.name)
    } else {
        format!("ssh -F {} {}", config.display(), context.name)
    };
    if context.ui.json {
        context.ui.object(&serde_json::json!({ "command": line, "config": config, "host": context.name }))?;
        return Ok(0);
    }
    context.ui.data(&line)?;
    if !installed {
        context.ui.say(format!(
            "`trampoline-cli ssh-config` makes it `ssh {}`, for git, rsync and nix alike",
            context.name
        ));
    }
    Ok(0)
}

fn missing(error: &std::io::Error) -> CliError {
    CliError::new(Exit::Unsupported, format!("cannot run ssh: {error}"))
        .hint("install the package openssh-client; `trampoline-cli shell` works without")
}
