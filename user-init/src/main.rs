//! The user container's agent, and what the client runs in that container.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args = agent::args::parse("user-init", env!("CARGO_PKG_VERSION"), user_init::ABOUT);
    ExitCode::from(user_init::run(&user_init::Place::default(), args))
}
