//! `man`: for packagers.

use std::path::PathBuf;

use clap::{Args, CommandFactory};

use crate::cli::Cli;
use crate::error::{OnPath, Result};

/// Write the man pages into a folder
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli man ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Made if it is absent
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(&self) -> Result<u8> {
        std::fs::create_dir_all(&self.dir).on("cannot create", &self.dir)?;
        clap_mangen::generate_to(Cli::command(), &self.dir).on("cannot write man pages to", &self.dir)?;
        Ok(0)
    }
}
