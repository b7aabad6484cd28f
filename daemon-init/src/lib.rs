//! The daemon container's entry point: makes the store and runs `nix-daemon`.

pub mod bake;
pub mod bind;
pub mod evidence;
pub mod home;
pub mod last_stop;
pub mod leave;
pub mod nix_daemon;
pub mod prepare;
pub mod seed;
pub mod serve;
pub mod store;
pub mod supervise;
pub mod volume;

use agent::args::Args;
use agent::paths::Paths;
use agent::status::chain;
use contract::exit::Exit;

/// Runs the command that stands in `args`.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let mut paths = Paths::default();
    if let Some(config) = &args.config {
        paths.config.clone_from(config);
    }
    if args.check_config {
        return agent::config::check(&paths.config);
    }
    match (args.command.as_deref().unwrap_or("serve"), args.rest.as_slice()) {
        ("serve", []) => serve::serve(&paths, false),
        // For a store that was copied onto the volume by other means.
        ("serve", [adopt]) if adopt == "--adopt-store" => serve::serve(&paths, true),
        ("prepare", []) => once(prepare::prepare(&paths), prepare::Error::exit),
        ("leave", []) => once(leave::leave(&paths), leave::Error::exit),
        ("accept-home", []) => once(home::accept(&paths), seed::error::StoreError::exit),
        ("bake", base) if base.len() <= 1 => {
            // RUN without a shell expands nothing, but has the build arguments in its environment.
            let base = base.first().cloned().or_else(|| std::env::var("BASE").ok()).unwrap_or_default();
            let baked = bake::run(&bake::Bake { root: "/".into(), base });
            once(baked.map(drop), seed::error::StoreError::exit)
        }
        (command, rest) => agent::args::refuse("daemon-init", command, rest),
    }
}

/// A command that does one thing and ends.
fn once<E: std::error::Error>(done: Result<(), E>, exit: impl FnOnce(&E) -> Exit) -> Exit {
    agent::log::init(&contract::config::Config::default().log);
    match done {
        Ok(()) => Exit::Ok,
        Err(error) => {
            tracing::error!("{}", chain(&error));
            exit(&error)
        }
    }
}
