//! `completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::error::{CliError, Result};

/// Print completions for a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli completions bash > ~/.local/share/bash-completion/completions/trampoline-cli
  trampoline-cli completions fish > ~/.config/fish/completions/trampoline-cli.fish")]
pub(crate) struct Completions {
    /// Which
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<u8> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "trampoline-cli", &mut text);
        std::io::Write::write_all(&mut std::io::stdout(), &text).map_err(|error| CliError::stdout(&error))?;
        Ok(0)
    }
}
