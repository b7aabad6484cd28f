//! What git's attributes make of files on their way into an archive, asked of git itself.

use std::collections::{BTreeSet, HashSet};
use std::ffi::OsString;
use std::io::Write;
use std::process::Stdio;

use super::{Repo, not_started};
use crate::error::{CliError, Result};
use contract::exit::Exit;

/// Those that matter, in git's order of applying them.
const NAMES: [&str; 6] = ["export-ignore", "export-subst", "filter", "ident", "eol", "working-tree-encoding"];

/// Paths with an attribute; folders end with a slash, as git has it.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Is in no archive.
    pub(super) ignored: HashSet<Vec<u8>>,
    /// Is in an archive with other content than its blob has.
    pub(super) cooked: HashSet<Vec<u8>>,
}

impl Attributes {
    /// Of these paths, by the attributes that `env`'s index holds.
    pub(super) fn of(repo: &Repo, env: &[(OsString, OsString)], paths: &BTreeSet<Vec<u8>>) -> Result<Self> {
        let mut child = repo
            .git(["check-attr", "--cached", "-z", "--stdin"])
            .args(NAMES)
            .envs(env.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_started(&error))?;
        let stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            // Beside the reading: both pipes may be full.
            scope.spawn(move || {
                let mut all = Vec::new();
                for path in paths {
                    all.extend_from_slice(path);
                    all.push(0);
                }
                // git's own words say why it left.
                let _ = stdin.map(|mut stdin| stdin.write_all(&all));
            });
            child.wait_with_output()
        })
        .map_err(|error| not_started(&error))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(CliError::new(Exit::Io, format!("cannot read the tree's attributes: git: {words}")));
        }
        Ok(Self::parse(&output.stdout))
    }

    /// Path, attribute and value, each with a zero behind it.
    fn parse(output: &[u8]) -> Self {
        let mut found = Self::default();
        let mut fields = output.split(|byte| *byte == 0);
        while let (Some(path), Some(name), Some(value)) = (fields.next(), fields.next(), fields.next()) {
            let set = match (name, value) {
                (_, b"unspecified" | b"unset") => None,
                // Line ends of files are as they are in the repository, unless they are to be those of Windows.
                (b"eol", value) if value != b"crlf" => None,
                (b"export-ignore", _) => Some(&mut found.ignored),
                _ => Some(&mut found.cooked),
            };
            if let Some(set) = set {
                set.insert(path.to_vec());
            }
        }
        found
    }
}

/// Whether something applies to files without an attribute of theirs: line ends by configuration, replaced objects.
pub(super) fn all_cooked(repo: &Repo) -> bool {
    let found = |args: &[&str], counts: fn(&str) -> bool| {
        let output = repo.git(args).output();
        output.is_ok_and(|output| counts(&String::from_utf8_lossy(&output.stdout)))
    };
    found(&["config", "--get-regexp", r"^core\.(autocrlf|eol)$"], |lines| {
        lines.lines().any(|line| {
            let value = line.split_once(' ').map_or("true", |(_, value)| value).to_lowercase();
            !matches!(value.as_str(), "false" | "no" | "off" | "0" | "input" | "lf" | "native")
        })
    }) || found(&["for-each-ref", "--count=1", "refs/replace/"], |lines| !lines.is_empty())
}
