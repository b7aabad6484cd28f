//! trampoline.toml: found upwards from the current folder, or as `--config` says.

use std::path::{Path, PathBuf};

use contract::config::{Config, Text};
use contract::exit::Exit;

use crate::error::{CliError, OnPath, Result};

/// Name of the file.
pub(crate) const FILE_NAME: &str = "trampoline.toml";

/// The checked configuration with where it came from.
#[derive(Debug)]
pub(crate) struct Settings {
    /// All values.
    pub(crate) config: Config,
    /// The file, if there is one.
    pub(crate) file: Option<PathBuf>,
    /// Its text; empty without a file.
    pub(crate) text: String,
}

/// Which file holds: the given one, or the nearest upwards from `dir`.
pub(crate) fn find(given: Option<&Path>, dir: &Path) -> Option<PathBuf> {
    match given {
        Some(path) => Some(path.to_owned()),
        None => dir.ancestors().map(|dir| dir.join(FILE_NAME)).find(|path| path.is_file()),
    }
}

impl Settings {
    /// Reads and checks the file; without one, everything is as by default.
    pub(crate) fn load(given: Option<&Path>, dir: &Path) -> Result<Self> {
        let Some(file) = find(given, dir) else {
            return Ok(Self { config: Config::default(), file: None, text: String::new() });
        };
        let text = std::fs::read_to_string(&file).on("cannot read", &file).map_err(|error| {
            CliError { exit: Exit::Config, ..error }
                .hint("`trampoline-cli config default > trampoline.toml` writes one with every option and its default")
        })?;
        let config = Config::parse(&text, &file.display().to_string()).map_err(|errors| {
            CliError::new(Exit::Config, errors.to_string())
                .hint("`trampoline-cli config default` prints every option with its default and a comment")
        })?;
        // What is written in the words of the Kubernetes API is known here, not where the agents read it.
        crate::render::kubernetes::check(&config)?;
        Ok(Self { config, file: Some(file), text })
    }

    /// The builder's name: the option, the file, or the user's name.
    pub(crate) fn builder_name(&self, option: Option<&str>) -> Result<String> {
        if let Some(name) = option {
            return check_name(name, "--name");
        }
        Ok(self.config.builder.name.clone().unwrap_or_else(|| default_name(&user_name())))
    }
}

/// Whether this may name a builder.
pub(crate) fn check_name(name: &str, what: &str) -> Result<String> {
    let label = name.len() <= contract::config::NAME_MAX
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if label {
        return Ok(name.to_owned());
    }
    Err(CliError::usage(format!("{what} {name:?} cannot name a builder"))
        .hint(format!("it names pod, volumes and SSH alias: {}", Text::Name.form())))
}

/// Who asks: the person behind sudo counts, because root is everybody.
pub(crate) fn user_name() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|key| std::env::var(key).ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "root".to_owned())
}

/// `user@host`, the label of what this person makes.
pub(crate) fn owner() -> String {
    format!("{}@{}", user_name(), rustix::system::uname().nodename().to_string_lossy())
}

/// A user's name as a builder's: letters that a DNS label cannot hold become hyphens.
fn default_name(user: &str) -> String {
    let mut name = String::new();
    for c in user.to_lowercase().chars().take(contract::config::NAME_MAX) {
        match c {
            'a'..='z' | '0'..='9' => name.push(c),
            _ if name.is_empty() || name.ends_with('-') => {}
            _ => name.push('-'),
        }
    }
    let name = name.trim_end_matches('-');
    match name.chars().next() {
        None => "builder".to_owned(),
        Some('a'..='z') => name.to_owned(),
        Some(_) => format!("u{}", &name[..name.len().min(contract::config::NAME_MAX - 1)]),
    }
}

#[cfg(test)]
mod tests {
    use super::{check_name, default_name};

    #[test]
    fn any_user_name_makes_a_name() {
        for (user, name) in [
            ("alice", "alice"),
            ("Alice.Smith", "alice-smith"),
            ("_svc_", "svc"),
            ("1and1", "u1and1"),
            ("DOMAIN\\bob", "domain-bob"),
            ("Ünal", "nal"),
            ("", "builder"),
            ("___", "builder"),
        ] {
            assert_eq!(default_name(user), name, "{user}");
            assert!(check_name(name, "name").is_ok());
        }
        assert!(check_name(&default_name(&"9".repeat(60)), "name").is_ok());
    }
}
