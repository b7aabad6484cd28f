//! The command line.

use clap::{Parser, Subcommand};

use crate::commands;
use crate::global::Global;

const EXAMPLES: &str = "\
A first quarter of an hour:
  trampoline-cli setup                    make a builder on this machine
  trampoline-cli push-tarball             send what HEAD holds
  trampoline-cli build -f hello.nix       build it there; the store path is on stdout
  trampoline-cli shell                    a prompt in the pushed tree
  trampoline-cli down                     stop it; the store stays
  trampoline-cli clean                    remove it

Exit codes: 0 done, 64 wrong usage, 68 in use, 69 no room, 71 something is missing on this machine,
72 podman failed, 73 too late, 75 the builder was stopping or stopped under a build, 76 a child failed,
77 no permission, 78 wrong configuration. `build` and `attach` pass Nix's own, and 130 if you leave a build before
its end; `shell` and `ssh` the command's.";

/// A Nix builder with a store of its own, in one pod.
#[derive(Parser)]
#[command(name = "trampoline-cli", version, about, after_help = EXAMPLES, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true, infer_subcommands = false)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// One file of `commands/` each.
#[derive(Subcommand)]
pub(crate) enum Command {
    Setup(commands::setup::Setup),
    Up(commands::up::Up),
    Down(commands::down::Down),
    Status(commands::status::Status),
    List(commands::list::List),
    Logs(commands::logs::Logs),
    PushTarball(commands::push_tarball::PushTarball),
    Build(commands::build::Build),
    Jobs(commands::jobs::Jobs),
    Attach(commands::attach::Attach),
    Cancel(commands::cancel::Cancel),
    Shell(commands::shell::Shell),
    Ssh(commands::ssh::Ssh),
    SshConfig(commands::ssh_config::SshConfig),
    #[command(hide = true)]
    Proxy(commands::proxy::Proxy),
    CopyClosure(commands::copy_closure::CopyClosure),
    PushFlake(commands::push_flake::PushFlake),
    Keys(commands::keys::KeysCommand),
    Roots(commands::roots::Roots),
    Hold(commands::hold::Hold),
    Release(commands::release::Release),
    Maintenance(commands::maintenance::Maintenance),
    Clean(commands::clean::Clean),
    Config(commands::config::ConfigCommand),
    Image(commands::image::Image),
    Completions(commands::completions::Completions),
    #[command(hide = true)]
    Man(commands::man::Man),
}
