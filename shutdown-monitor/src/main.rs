//! `shutdown-monitor`: stops an idle builder. See the library.

use std::io::Write;
use std::process::ExitCode;

use agent::args;
use agent::paths::Paths;
use contract::exit::Exit;

const ABOUT: &str =
    "shutdown-monitor: stops the builder after an idle time without builds, sessions and jobs.

Usage: shutdown-monitor [OPTIONS] [COMMAND]

Commands:
  serve   the container's entry point (default)";

fn main() -> ExitCode {
    let args = args::parse("shutdown-monitor", env!("CARGO_PKG_VERSION"), ABOUT);
    let mut paths = Paths::default();
    if let Some(config) = args.config {
        paths.config = config;
    }
    let exit = match args.command.as_deref() {
        _ if args.check_config => agent::config::check(&paths.config),
        None | Some("serve") => shutdown_monitor::serve::serve(&paths),
        Some(other) => {
            let _ = writeln!(
                std::io::stderr(),
                "shutdown-monitor: unknown command {other}\nhint: shutdown-monitor --help"
            );
            Exit::Usage
        }
    };
    ExitCode::from(exit.code())
}
