//! The user container's side: the agent that admits sessions and jobs and supervises sshd (`serve`), and the subcommands that
//! the client runs in that container through the engine's exec.
//!
//! One door: every way in asks `serve` over its control socket, which counts it, and says no while the builder stops.

pub mod activity;
pub mod commands;
pub mod control;
pub mod environment;
pub mod error;
pub mod hold;
pub mod home;
pub mod in_use;
pub mod job;
pub mod profiles;
pub mod project;
pub mod serve;
pub mod session;
pub mod ssh;
pub mod status;
mod tree;
mod unread;

use std::path::PathBuf;

use agent::args::Args;
use agent::paths::Paths;

/// What `--help` prints.
pub const ABOUT: &str = "\
Serves a builder's user: waits for the daemon, then sshd, sessions and jobs.

user-init [serve]                               the agent
user-init session --kind exec|ssh|transfer [--id ID] [--begun-fd N|--begun-word W] [--project P [--generation N]] [-- CMD...]
user-init signal ID int|term|hup                to a session without a terminal
user-init receive [--fd 3]                      a tree on standard input, or on a pipe (see contract::job)
user-init job start [--follow]|list|follow ID [--now] [--from BYTE]|cancel ID [--wait]
user-init projects                              pushed trees, JSON
user-init store-path --project P [--generation N] PATH
                                                where a link in a pushed tree leads
user-init keys add|ls                           public keys on standard input
user-init host-key                              the public one
user-init hold set|release                      that the builder stays; `set` reads what is wished on standard input
user-init status                                what the pod publishes, JSON
user-init await [--keys]                        the same at each change, until sessions are served (and the keys on
                                                standard input may come in) or an agent has failed
user-init await --config DIGEST                 until each agent has taken that trampoline.toml, or refuses it";

/// Where this agent finds and offers things.
#[derive(Debug, Clone)]
pub struct Place {
    /// Folders.
    pub paths: Paths,
    /// Where sshd listens.
    pub ssh_port: u16,
}

impl Default for Place {
    fn default() -> Self {
        Self { paths: Paths::default(), ssh_port: contract::places::SSH_PORT }
    }
}

impl Place {
    /// This program, as others start it.
    #[must_use]
    pub fn program(&self) -> PathBuf {
        self.paths.image.join("bin/user-init")
    }
}

/// Does what `args` say and returns the exit code.
#[must_use]
pub fn run(place: &Place, args: Args) -> u8 {
    commands::run(place, args)
}
