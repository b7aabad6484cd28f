//! `push-flake`: a flake with all its inputs, by the local Nix.

use std::process::Stdio;

use clap::Args;
use contract::exit::Exit;

use crate::commands::copy_closure::{Nix, no_nix};
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;

/// Copy a flake and all its inputs into the builder
///
/// Uses the local Nix, and what it has fetched already: the builder needs no access to private inputs.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli push-flake                the flake of this folder
  trampoline-cli push-flake github:owner/repo
  trampoline-cli shell -- nix build $(trampoline-cli push-flake)")]
pub(crate) struct PushFlake {
    /// Which
    #[arg(value_name = "FLAKE", default_value = ".")]
    flake: String,
}

impl PushFlake {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let mut nix = Nix::new(&context, "flake archive").await?;
        nix.command.args(["--json", "--to", &nix.store, &self.flake]).stdout(Stdio::piped());
        let child = nix.command.spawn().map_err(|error| no_nix(&error))?;
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| CliError::new(Exit::ChildFailed, format!("cannot wait for nix: {error}")))?;
        if !output.status.success() {
            return Err(CliError::new(
                Exit::ChildFailed,
                format!("`nix flake archive` failed ({})", output.status),
            )
            .hint(
                "`trampoline-cli push-tarball` sends the tree without its inputs; the builder fetches those",
            ));
        }
        let tree: serde_json::Value = serde_json::from_slice(&output.stdout).map_err(|error| {
            CliError::new(Exit::ChildFailed, format!("cannot read what `nix flake archive` printed: {error}"))
        })?;
        if context.ui.json {
            context.ui.object(&tree)?;
        } else if let Some(path) = tree.get("path").and_then(serde_json::Value::as_str) {
            context.ui.data(path)?;
        }
        Ok(0)
    }
}
