//! `config`: trampoline.toml itself. But for `apply` it asks no engine.

mod apply;

use clap::{Args, Subcommand};

use crate::context::current_dir;
use crate::error::Result;
use crate::global::Global;
use crate::settings::Settings;

/// Check, show, describe and apply trampoline.toml
#[derive(Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  trampoline-cli config default > trampoline.toml
  trampoline-cli config check
  trampoline-cli config show               every value, and where it comes from
  trampoline-cli config apply              into the builder, which need not stop for it"
)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Check the file; say nothing if it is right
    #[command(
        after_help = "Examples:\n  trampoline-cli config check\n  trampoline-cli --config other.toml config check"
    )]
    Check,
    /// Print every value with where it comes from
    #[command(
        after_help = "Examples:\n  trampoline-cli config show\n  trampoline-cli config show --json | jq '.[0]'"
    )]
    Show,
    /// Ship the file to the builder, whose agents read it at once
    ///
    /// Says of each changed option when it counts. Neither starts nor stops the builder; what needs another pod waits
    /// for `setup`.
    #[command(
        after_help = "Examples:\n  trampoline-cli config apply\n  trampoline-cli config apply --json | jq .changes"
    )]
    Apply,
    /// Print a JSON schema, for editors
    #[command(after_help = "Examples:\n  trampoline-cli config schema > trampoline.schema.json")]
    Schema,
    /// Print a file with every option, its default and a comment
    #[command(after_help = "Examples:\n  trampoline-cli config default > trampoline.toml")]
    Default,
}

impl ConfigCommand {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let ui = global.ui();
        let load = || Settings::load(global.config.as_deref(), &current_dir()?);
        match self.what {
            What::Apply => return apply::apply(global).await,
            What::Schema => ui.raw(contract::config::json_schema().as_bytes())?,
            What::Default => ui.raw(contract::config::default_file().as_bytes())?,
            What::Check => {
                let settings = load()?;
                let file = settings.file.map(|file| file.display().to_string());
                if ui.json {
                    ui.object(&serde_json::json!({ "file": file, "valid": true }))?;
                } else {
                    ui.say(file.map_or_else(
                        || "no trampoline.toml here or above: all defaults hold".to_owned(),
                        |file| format!("{file} is right"),
                    ));
                }
            }
            What::Show => {
                let entries = load()?.config.entries();
                if ui.json {
                    ui.object(&entries)?;
                } else {
                    for entry in entries {
                        let value = entry.value.unwrap_or_else(|| "(not set)".to_owned());
                        ui.data(format!("{} = {value}  # {}", entry.key, entry.origin))?;
                    }
                }
            }
        }
        Ok(0)
    }
}
