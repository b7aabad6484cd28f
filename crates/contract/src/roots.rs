//! What keeps store paths from collection, as far as it is a root of the store.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where all stores are that know of each other.
const STORE: &str = "/nix/store";

/// A root, or many of one kind that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Whose it is.
    pub kind: RootKind,
    /// A named root's name; for all others where they stand.
    pub name: String,
    /// Store path that it holds; absent where it holds several, and where a link on the way to it was not followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Seconds since the epoch when it was made or last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
    /// Seconds since the epoch after which it holds nothing any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// What it holds alive, if that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Holds>,
}

/// Whose a root is, and so what may become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RootKind {
    /// Made by `roots add`, and gone by `roots rm` or when it expires.
    Named,
    /// The result of a build that was asked for by `build`; goes with the build's log.
    Job,
    /// A generation of a profile.
    Generation,
    /// A `result` link that somebody's Nix made, in the home.
    Link,
    /// What the image brought.
    Image,
    /// What ran when the last collection began.
    InUse,
    /// Anything else below Nix's own `gcroots`.
    Other,
}

impl RootKind {
    /// As a word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Named => "named",
            Self::Job => "job",
            Self::Generation => "generation",
            Self::Link => "link",
            Self::Image => "image",
            Self::InUse => "in-use",
            Self::Other => "other",
        }
    }
}

/// What a root holds alive: its paths and all that these need; of what was built here, the derivations as well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Store paths.
    pub paths: u64,
    /// Their archives' sizes, bytes: about what they take on disk, before identical files are linked.
    pub bytes: u64,
    /// Of these bytes, what would go with this root if no process uses it: no other root holds it.
    pub alone: u64,
}

impl Holds {
    /// Bytes that other roots hold as well.
    #[must_use]
    pub fn shared(&self) -> u64 {
        self.bytes.saturating_sub(self.alone)
    }
}

/// What is to become a named root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoot {
    /// See [`check_name`].
    pub name: String,
    /// Store path, without anything behind it.
    pub path: String,
    /// Seconds until it expires; absent: it stays until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
}

/// As many links as Linux follows.
const MAX_LINKS: usize = 40;

/// The store path that `path` is, lies in, or leads to by links; where the links themselves are, `read_link` knows. Step by step: a
/// store path may be a link to another one.
pub fn store_path(path: &Path, read_link: impl Fn(&Path) -> Option<PathBuf>) -> Option<String> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        if let Ok(inside) = path.strip_prefix(STORE) {
            let Some(Component::Normal(name)) = inside.components().next() else { return None };
            return Some(format!("{STORE}/{}", name.to_string_lossy()));
        }
        let target = read_link(&path)?;
        path = path.parent().map_or_else(PathBuf::new, Path::to_owned).join(target);
    }
    None
}

/// Longest name.
const NAME_MAX: usize = 100;

/// Refuses what is no name for a root, which becomes that of a file.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check_name(name: &str) -> Result<(), String> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let begins = name.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if begins && name.len() <= NAME_MAX && name.bytes().all(fits) {
        return Ok(());
    }
    Err(format!(
        "{name:?} is no name for a root: it begins with a letter or digit, and has at most {NAME_MAX} letters, digits, `-`, `_` and `.`"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_to_the_first_store_path() {
        let links = |path: &Path| match path.to_str().unwrap() {
            "/home/nix/p/result" => Some("../q/other".into()),
            "/home/nix/p/../q/other" => Some("/nix/store/x-y/bin".into()),
            "/nix/store/x-y" => Some("/nix/store/z-z".into()),
            "/loop" => Some("loop".into()),
            _ => None,
        };
        let leads = |path: &str| store_path(Path::new(path), links);
        assert_eq!(leads("/nix/store/x-y"), Some("/nix/store/x-y".into()));
        assert_eq!(leads("/nix/store/x-y/bin/x"), Some("/nix/store/x-y".into()));
        assert_eq!(leads("/home/nix/p/result"), Some("/nix/store/x-y".into()));
        for none in ["/nix/store", "/nix/store/", "/loop", "/etc/passwd", "", "result"] {
            assert_eq!(leads(none), None, "{none}");
        }
    }

    #[test]
    fn a_name_is_one_harmless_component_of_a_path() {
        for good in ["a", "1", "release-1.2_x", &"x".repeat(NAME_MAX)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "..", ".hidden", "-x", "a/b", "a b", "ä", "a\0", &"x".repeat(NAME_MAX + 1)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
