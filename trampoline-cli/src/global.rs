//! What can be said with every command: which builder, and how to speak.

use std::path::PathBuf;

use clap::Args;
use contract::config::Engine;

use crate::engine::{Choice, Target};
use crate::ui::Ui;

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
