//! The agents' command line: a handful of words. A parser with derive would be a third of the binary.

use std::path::PathBuf;

use contract::exit::Exit;

/// What stood on the command line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Args {
    /// First word that is no option.
    pub command: Option<String>,
    /// Everything behind it, as it is.
    pub rest: Vec<String>,
    /// `--config FILE`.
    pub config: Option<PathBuf>,
    /// `--check-config`.
    pub check_config: bool,
}

/// What to do with it.
#[derive(Debug, PartialEq, Eq)]
enum Parsed {
    Run(Args),
    Print(String),
    Wrong(String),
}

const OPTIONS: &str = "\n\nOptions:\n  --config FILE    read this instead of the mounted trampoline.toml\n  \
                       --check-config   read the configuration, say what is wrong with it, and end\n  --version\n  --help";

/// Parses the process's arguments. `--help`, `--version` and mistakes end the process here.
#[must_use]
pub fn parse(agent: &str, version: &str, about: &str) -> Args {
    use std::io::Write;
    match parse_from(agent, version, about, std::env::args().skip(1)) {
        Parsed::Run(args) => args,
        Parsed::Print(text) => {
            // A closed pipe is the reader's wish.
            let _ = writeln!(std::io::stdout(), "{text}");
            std::process::exit(i32::from(Exit::Ok.code()));
        }
        Parsed::Wrong(text) => {
            let _ = writeln!(std::io::stderr(), "{agent}: {text}\nhint: {agent} --help");
            std::process::exit(i32::from(Exit::Usage.code()));
        }
    }
}

/// Says that these words mean nothing to this agent.
#[must_use]
pub fn refuse(agent: &str, command: &str, rest: &[String]) -> Exit {
    use std::io::Write;
    let words = std::iter::once(command).chain(rest.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
    // Without a standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{agent}: cannot make sense of `{words}`\nhint: {agent} --help");
    Exit::Usage
}

fn parse_from(agent: &str, version: &str, about: &str, mut words: impl Iterator<Item = String>) -> Parsed {
    let mut args = Args::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => return Parsed::Print(format!("{about}{OPTIONS}")),
            "--version" | "-V" => return Parsed::Print(format!("{agent} {version}")),
            "--check-config" => args.check_config = true,
            "--config" => match words.next() {
                Some(file) => args.config = Some(file.into()),
                None => return Parsed::Wrong("--config needs a file".into()),
            },
            option if option.starts_with('-') => return Parsed::Wrong(format!("unknown option {option}")),
            _ => {
                args.command = Some(word);
                args.rest = words.collect();
                break;
            }
        }
    }
    Parsed::Run(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Parsed {
        parse_from("x-init", "1", "x-init [serve]", words.iter().map(ToString::to_string))
    }

    #[test]
    fn what_follows_the_command_is_its_own() {
        let Parsed::Run(args) = parse(&["--config", "f", "session", "--help", "--", "ls"]) else { panic!() };
        assert_eq!(args.command.as_deref(), Some("session"));
        assert_eq!(args.rest, ["--help", "--", "ls"]);
        assert_eq!(args.config.unwrap().to_str(), Some("f"));
    }

    #[test]
    fn mistakes_are_refused() {
        assert_eq!(parse(&["--chek"]), Parsed::Wrong("unknown option --chek".into()));
        assert!(matches!(parse(&["--config"]), Parsed::Wrong(_)));
        assert!(matches!(parse(&["-h"]), Parsed::Print(t) if t.contains("--check-config")));
    }
}
