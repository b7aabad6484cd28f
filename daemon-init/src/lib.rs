//! The daemon container's entry point: makes the store and runs `nix-daemon`.

pub mod bake;
pub mod bind;
pub mod build_dir;
pub mod checkpoint;
mod collected;
pub mod control;
pub mod damage;
pub mod database;
pub mod evidence;
pub mod home;
pub mod in_use;
pub mod keys;
pub mod kvm;
pub mod last_stop;
pub mod leave;
pub mod lives;
pub mod logs;
pub mod metadata;
pub mod nix_daemon;
pub mod prepare;
pub mod proof;
pub mod repair;
pub mod reserve;
pub mod roots;
pub mod seed;
pub mod seed_ahead;
pub mod serve;
pub mod store;
pub mod supervise;
pub mod volume;

mod random;

use agent::args::Args;
use agent::paths::Paths;
use agent::status::chain;
use contract::exit::Exit;
use contract::handshake::Isolation;

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
    let words: Vec<&str> = args.rest.iter().map(String::as_str).collect();
    match (args.command.as_deref().unwrap_or("serve"), words.as_slice()) {
        ("serve", [] | ["--isolation", "privileged"]) => serve::serve(&paths, Isolation::Privileged, false),
        ("serve", ["--adopt-store"] | ["--isolation", "privileged", "--adopt-store"]) => {
            serve::serve(&paths, Isolation::Privileged, true)
        }
        ("serve", ["--isolation", "userns"]) => {
            serve::serve(&paths.volume_at_nix(), Isolation::Userns, false)
        }
        ("prepare", []) => once(prepare::before_others(&paths), prepare::Error::exit),
        ("prepare", ["--seed"]) => seed_ahead::seed(&paths, false),
        ("prepare", ["--seed", "--adopt-store"]) => seed_ahead::seed(&paths, true),
        ("leave", []) => once(leave::leave(&paths), leave::Error::exit),
        ("ask", []) => plainly(control::ask::ask(&paths), control::ask::Error::exit),
        ("accept-home", []) => once(home::accept(&beside_serve(paths)), seed::error::StoreError::exit),
        ("logs", [of, which @ ..]) if matches!(which, [] | ["--previous"]) => {
            print_kept(&beside_serve(paths), of, !which.is_empty())
        }
        ("keys", [change @ ("add" | "rm")]) => {
            let change = if *change == "add" { keys::Change::Add } else { keys::Change::Remove };
            plainly(keys::change(&beside_serve(paths), change), keys::Error::exit)
        }
        (proof::namespaces::COMMAND, []) => proof::namespaces::child(false),
        (proof::namespaces::COMMAND, [proof::namespaces::WITHIN]) => proof::namespaces::child(true),
        ("bake", base @ ([] | [_])) => {
            // RUN without a shell expands nothing, but has the build arguments in its environment.
            let base = base.first().map(ToString::to_string).or_else(|| std::env::var("BASE").ok());
            let base = base.unwrap_or_default();
            let baked = bake::run(&bake::Bake { root: "/".into(), base });
            once(baked.map(drop), seed::error::StoreError::exit)
        }
        (command, _) => agent::args::refuse("daemon-init", command, &args.rest),
    }
}

/// Where the store volume is in the container of a daemon-init that serves.
fn beside_serve(paths: Paths) -> Paths {
    if paths.mark_dir().exists() { paths } else { paths.volume_at_nix() }
}

/// A log that is kept, on standard output.
fn print_kept(paths: &Paths, of: &str, previous: bool) -> Exit {
    use std::io::Write;
    let Some(of) = contract::places::Container::ALL.into_iter().find(|known| known.name() == of) else {
        return agent::args::refuse("daemon-init", "logs", &[of.to_owned()]);
    };
    let printed = logs::kept(paths, of, previous);
    // Who reads no more wants no more.
    plainly(printed.map(|text| drop(std::io::stdout().write_all(&text))), logs::Error::exit)
}

/// A command of the client's, who shows its last line.
fn plainly<E: std::error::Error>(done: Result<(), E>, exit: impl FnOnce(&E) -> Exit) -> Exit {
    use std::io::Write;
    let Err(error) = done else { return Exit::Ok };
    // Nobody may be there to read it.
    let _ = writeln!(std::io::stderr(), "daemon-init: {}", chain(&error));
    exit(&error)
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
