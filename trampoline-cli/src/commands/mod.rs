//! One file per subcommand. Each ends with the exit code of the program.

pub(crate) mod attach;
pub(crate) mod build;
pub(crate) mod cancel;
pub(crate) mod clean;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod copy_closure;
pub(crate) mod down;
pub(crate) mod hold;
pub(crate) mod image;
pub(crate) mod jobs;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod logs;
pub(crate) mod maintenance;
pub(crate) mod man;
pub(crate) mod proxy;
pub(crate) mod push_flake;
pub(crate) mod push_tarball;
pub(crate) mod release;
pub(crate) mod roots;
pub(crate) mod setup;
pub(crate) mod shell;
pub(crate) mod ssh;
pub(crate) mod ssh_config;
pub(crate) mod status;
pub(crate) mod up;

use crate::cli::{Cli, Command};
use crate::error::Result;

/// Runs one.
pub(crate) async fn run(cli: &Cli) -> Result<u8> {
    let global = &cli.global;
    match &cli.command {
        Command::Setup(command) => command.run(global).await,
        Command::Up(command) => command.run(global).await,
        Command::Down(command) => command.run(global).await,
        Command::Status(command) => command.run(global).await,
        Command::List(command) => command.run(global).await,
        Command::Logs(command) => command.run(global).await,
        Command::PushTarball(command) => command.run(global).await,
        Command::Build(command) => command.run(global).await,
        Command::Jobs(command) => command.run(global).await,
        Command::Attach(command) => command.run(global).await,
        Command::Cancel(command) => command.run(global).await,
        Command::Shell(command) => command.run(global).await,
        Command::Ssh(command) => command.run(global).await,
        Command::SshConfig(command) => command.run(global).await,
        Command::Proxy(command) => command.run(global).await,
        Command::CopyClosure(command) => command.run(global).await,
        Command::PushFlake(command) => command.run(global).await,
        Command::Keys(command) => command.run(global).await,
        Command::Roots(command) => command.run(global).await,
        Command::Hold(command) => command.run(global).await,
        Command::Release(command) => command.run(global).await,
        Command::Maintenance(command) => command.run(global).await,
        Command::Clean(command) => command.run(global).await,
        Command::Config(command) => command.run(global).await,
        Command::Image(command) => command.run(global).await,
        Command::Completions(command) => command.run(),
        Command::Man(command) => command.run(),
    }
}
