//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use contract::config::Engine;

use crate::commands;
use crate::engine::{Choice, Target};
use crate::ui::Ui;

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

/// Options of every command.
#[derive(Args, Clone)]
pub(crate) struct Global {
    /// The builder [default: `name` of trampoline.toml, else your user name]
    #[arg(long, short, global = true, value_name = "NAME", help_heading = "Global options")]
    pub(crate) name: Option<String>,
    /// Use this file instead of the nearest trampoline.toml upwards from here
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub(crate) config: Option<PathBuf>,
    /// What runs the builder: podman or kubernetes [default: `engine` of trampoline.toml]
    #[arg(long, global = true, value_name = "ENGINE", help_heading = "Global options")]
    #[arg(value_parser = engine)]
    pub(crate) engine: Option<Engine>,
    /// The cluster, as kubeconfig calls it; means --engine kubernetes
    #[arg(long, global = true, value_name = "CONTEXT", help_heading = "Global options")]
    pub(crate) context: Option<String>,
    /// The builder's namespace in the cluster; means --engine kubernetes
    #[arg(long, global = true, value_name = "NAMESPACE", help_heading = "Global options")]
    pub(crate) namespace: Option<String>,
    /// Data (and the error, if any) as JSON on stdout
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// Say nothing but warnings and errors
    #[arg(long, short, global = true, conflicts_with = "verbose", help_heading = "Global options")]
    pub(crate) quiet: bool,
    /// Say which commands are run
    #[arg(long, short, global = true, help_heading = "Global options")]
    pub(crate) verbose: bool,
}

impl Global {
    /// How to speak.
    pub(crate) fn ui(&self) -> Ui {
        Ui::new(self.json, self.quiet, self.verbose)
    }

    /// Where the builder is.
    pub(crate) fn choice(&self) -> Choice {
        Choice {
            engine: self.engine,
            target: Target { context: self.context.clone(), namespace: self.namespace.clone() },
        }
    }
}

fn engine(word: &str) -> Result<Engine, String> {
    match word {
        "podman" => Ok(Engine::Podman),
        "kubernetes" => Ok(Engine::Kubernetes),
        _ => Err("it is podman or kubernetes".to_owned()),
    }
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
