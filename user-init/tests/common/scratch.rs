//! user-init with everything below one folder, for the tests: `user-init-scratch ROOT PORT WORDS...`.

use std::path::Path;
use std::process::ExitCode;

use agent::args::Args;
use agent::paths::Paths;
use user_init::Place;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let (Some(root), Some(port)) = (words.next(), words.next().and_then(|p| p.parse().ok())) else {
        return ExitCode::from(64);
    };
    let place = Place { paths: Paths::scratch(Path::new(&root)), ssh_port: port };
    let args = Args { command: words.next(), rest: words.collect(), ..Args::default() };
    ExitCode::from(user_init::run(&place, args))
}
