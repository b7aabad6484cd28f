//! `trampoline-cli`: makes a builder on an engine, and works with it.

mod cli;
mod closure;
mod commands;
mod context;
mod control;
mod embedded;
mod engine;
mod error;
mod git;
mod global;
mod jobs;
mod keys;
mod lines;
mod nixlog;
mod prepare;
mod push;
mod remote;
mod render;
mod resolve;
mod settings;
mod signing;
mod sshconfig;
mod state;
mod ui;
mod wake;

use std::process::ExitCode;

use clap::Parser;
use contract::exit::Exit;

fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ui = cli.global.ui();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            ui.error(&error::CliError::new(Exit::Internal, format!("cannot start: {error}")));
            return ExitCode::from(Exit::Internal.code());
        }
    };
    let code = match runtime.block_on(commands::run(&cli)) {
        Ok(code) => code,
        Err(error) => {
            ui.error(&error);
            error.exit.code()
        }
    };
    // A thread may still wait for a key press; nothing waits for it.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Help and version are data; everything else is wrong usage, which has a code of its own here.
fn usage(error: &clap::Error) -> ExitCode {
    // A closed stdout or stderr changes nothing.
    let _ = error.print();
    if !error.use_stderr() {
        return ExitCode::SUCCESS;
    }
    if std::env::args_os().any(|word| word == "--json") {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        let hint = "`--help` shows what is accepted";
        let object = error::CliError::usage(message).hint(hint).to_json();
        let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{object}\n").as_bytes());
    }
    ExitCode::from(Exit::Usage.code())
}
