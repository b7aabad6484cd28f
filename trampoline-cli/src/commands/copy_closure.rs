//! `copy-closure`: store paths between this machine's store and the builder's, by the local Nix.

use clap::Args;
use contract::exit::Exit;
use tokio::process::Command;

use crate::cli::Global;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::{sshconfig, wake};

/// Copy store paths and all they need into the builder, or back
///
/// Uses the local Nix. The builder takes content-addressed paths (sources) and paths signed by a key that it trusts.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli copy-closure /nix/store/…-source
  trampoline-cli copy-closure --from /nix/store/…-hello-1.0
  trampoline-cli copy-closure --from $(trampoline-cli build -q -f hello.nix)")]
pub(crate) struct CopyClosure {
    /// What to copy
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// From the builder into this machine's store
    #[arg(long)]
    from: bool,
}

impl CopyClosure {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        self.check()?;
        let mut nix = Nix::new(&context, "copy").await?;
        if self.from {
            // What one's own builder built is signed by nobody; whether this machine's daemon takes that is its choice.
            nix.command.args(["--no-check-sigs", "--from"]);
        } else {
            nix.command.arg("--to");
        }
        nix.command.arg(&nix.store);
        nix.command.args(&self.paths);
        let status = nix.command.status().await.map_err(|error| no_nix(&error))?;
        if !status.success() {
            if let Some(path) = self.absent().await {
                return Err(CliError::new(Exit::Usage, format!("{path} is not in this machine's store"))
                    .hint("`--from` copies a path of the builder's store to here"));
            }
            let error = CliError::new(Exit::ChildFailed, format!("`nix copy` failed ({status})"));
            return Err(if self.from {
                error.hint(
                    "to take unsigned paths, this machine's daemon must trust you or a key that signed them",
                )
            } else {
                error.hint(
                    "if it says that a path lacks a signature: `nix store sign -k KEYFILE -r PATH` and the public key \
                     under [daemon] trusted-public-keys, then `trampoline-cli setup`",
                )
            });
        }
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "copied": self.paths }))?;
        }
        Ok(0)
    }
}

impl CopyClosure {
    /// Nix takes anything else for a flake, and says something about flakes.
    fn check(&self) -> Result<()> {
        for path in &self.paths {
            let is_link = std::fs::read_link(path).is_ok();
            if !path.starts_with("/nix/store/") && !is_link {
                return Err(CliError::new(Exit::Usage, format!("{path} is not a store path"))
                    .hint("name paths below /nix/store, or a `result` link to one"));
            }
        }
        Ok(())
    }

    /// The first path that the local store lacks. Nix is asked: its store may lie elsewhere than at /nix.
    async fn absent(&self) -> Option<&str> {
        for path in self.paths.iter().filter(|_| !self.from) {
            let asked = Command::new("nix-store").args(["--query", "--hash", path]).output().await.ok()?;
            if !asked.status.success() {
                return Some(path);
            }
        }
        None
    }
}

/// The local Nix, set up to reach the builder.
pub(crate) struct Nix {
    /// Ready for its arguments.
    pub(crate) command: Command,
    /// The builder's store.
    pub(crate) store: String,
}

impl Nix {
    /// Asks for Nix before the builder is started for nothing.
    pub(crate) async fn new(context: &Context, subcommand: &str) -> Result<Self> {
        let version = Command::new("nix").arg("--version").output().await.map_err(|error| no_nix(&error))?;
        context.ui.detail(String::from_utf8_lossy(&version.stdout).trim());
        wake::running(context).await?;
        let config = sshconfig::refresh(context).await?;
        let mut command = Command::new("nix");
        command.args(["--extra-experimental-features", "nix-command flakes"]).args(subcommand.split(' '));
        let options = format!("-F {}", config.display());
        if config.display().to_string().contains(char::is_whitespace) {
            return Err(CliError::new(
                Exit::Io,
                format!("Nix cannot be given the path {}", config.display()),
            )
            .hint("set XDG_STATE_HOME to a folder without spaces in its name"));
        }
        context.ui.detail(format!("+ NIX_SSHOPTS='{options}' nix {subcommand} …"));
        command.env("NIX_SSHOPTS", options);
        Ok(Self { command, store: format!("ssh-ng://{}", context.name) })
    }
}

/// What works without it.
pub(crate) fn no_nix(error: &std::io::Error) -> CliError {
    let message = if error.kind() == std::io::ErrorKind::NotFound {
        "this machine has no Nix, whose store this command reads".to_owned()
    } else {
        format!("cannot run nix: {error}")
    };
    CliError::new(Exit::Unsupported, message)
        .hint("`trampoline-cli push-tarball` and `trampoline-cli build` work without; the builder has a Nix of its own")
}
