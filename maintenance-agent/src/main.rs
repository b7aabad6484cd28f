//! `maintenance-agent`: keeps the store small. See the library.

use std::io::{self, Write};
use std::process::ExitCode;

use agent::args;
use agent::paths::Paths;
use contract::exit::Exit;
use maintenance_agent::once::{self, Wish};

const ABOUT: &str = "maintenance-agent: collects garbage, links identical files, and tells how full the store is.

Usage: maintenance-agent [OPTIONS] [COMMAND]

Commands:
  serve   the container's entry point (default)
  once [--dry-run] [--optimise] [--max-freed SIZE] [--older-than DURATION] [--json]
          collect now and say what went; with --max-freed stop when so much is free again; with --older-than only what came in so
          long ago, in place of the configured window; with --optimise link identical files whatever the configuration says
  once --verify [--json]
          read the whole store now, have repaired or removed what is damaged, and say what was";

fn main() -> ExitCode {
    let args = args::parse("maintenance-agent", env!("CARGO_PKG_VERSION"), ABOUT);
    let mut paths = Paths::default();
    if let Some(config) = args.config {
        paths.config = config;
    }
    let exit = match args.command.as_deref() {
        _ if args.check_config => agent::config::check(&paths.config),
        None | Some("serve") => maintenance_agent::serve::serve(&paths),
        Some("once") => match Wish::parse(&args.rest) {
            Ok(wish) => once::once(&paths, &wish, &mut io::stdout(), &mut io::stderr()),
            Err(why) => wrong(&why),
        },
        Some(other) => wrong(&format!("unknown command {other}")),
    };
    ExitCode::from(exit.code())
}

fn wrong(why: &str) -> Exit {
    // The code says it as well.
    let _ = writeln!(io::stderr(), "maintenance-agent: {why}\nhint: maintenance-agent --help");
    Exit::Usage
}
