//! The user's repository, through their own git; nothing is ever written to it.

mod attributes;
mod cooked;
mod dirty;
mod listing;
mod objects;
mod tree;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use contract::exit::Exit;

use crate::error::{CliError, OnPath, Result};

pub(crate) use tree::{Sink, Stopped, Tree};

/// A checkout.
#[derive(Debug, Clone)]
pub(crate) struct Repo {
    /// Its top folder.
    pub(crate) top: PathBuf,
}

/// What is pushed.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// Commit (whose `export-subst` placeholders git fills in) or tree.
    pub(crate) object: String,
    /// Its tree.
    pub(crate) tree: String,
    /// For a person: `main 1a2b3c4`.
    pub(crate) label: String,
    /// Environment under which git finds `object`.
    pub(crate) env: Vec<(OsString, OsString)>,
}

impl Repo {
    /// The checkout that holds this folder, if any.
    pub(crate) fn around(dir: &Path) -> Result<Option<Self>> {
        let output =
            command(dir).args(["rev-parse", "--show-toplevel"]).output().map_err(|e| not_started(&e))?;
        if output.status.success() {
            let top = PathBuf::from(OsString::from_vec(trimmed(output.stdout)));
            return Ok(Some(Self { top }));
        }
        if String::from_utf8_lossy(&output.stderr).contains("not a git repository") {
            return Ok(None);
        }
        // A folder of somebody else's, a broken repository: git's own words say what to type.
        Err(failed(&output.stderr))
    }

    /// The same, or a refusal that says what to do.
    pub(crate) fn required(dir: &Path) -> Result<Self> {
        Self::around(dir)?.ok_or_else(|| {
            CliError::usage(format!("{} is not in a git repository", dir.display()))
                .hint("git decides what is sent: `git init && git add . && git commit -m start`, or go to your checkout")
        })
    }

    /// git in this checkout.
    pub(crate) fn git<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Command {
        let mut command = command(&self.top);
        command.args(args);
        command
    }

    /// What git prints, without the newline at its end.
    pub(crate) fn read<S: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = S>) -> Result<String> {
        read(&mut self.git(args))
    }

    /// Where git keeps something of this checkout.
    fn git_path(&self, name: &str) -> Result<PathBuf> {
        self.read(["rev-parse", "--git-path", name]).map(|path| self.top.join(path))
    }

    /// A revision, to push.
    pub(crate) fn revision(&self, revision: &str) -> Result<Source> {
        let parse =
            |what: String| self.read(["rev-parse", "--verify", "--quiet", "--end-of-options", what.as_str()]);
        let object = parse(format!("{revision}^{{commit}}")).or_else(|_| parse(format!("{revision}^{{tree}}"))).map_err(
            |_| {
                let error = CliError::usage(format!("{revision} names nothing in {}", self.top.display()));
                match revision {
                    "HEAD" => error.hint("there is no commit yet: `git commit` makes one; --dirty sends the working tree as it is"),
                    _ => error.hint("`git log --oneline --all` shows what could be sent"),
                }
            },
        )?;
        let tree = parse(format!("{object}^{{tree}}"))?;
        let short: String = object.chars().take(7).collect();
        let label = match revision {
            "HEAD" => self.branch().map_or(short.clone(), |branch| format!("{branch} {short}")),
            _ if object.starts_with(revision) => short,
            _ => format!("{revision} {short}"),
        };
        Ok(Source { object, tree, label, env: Vec::new() })
    }

    fn branch(&self) -> Option<String> {
        self.read(["symbolic-ref", "--quiet", "--short", "HEAD"]).ok()
    }

    /// Whether files that git knows differ from HEAD.
    pub(crate) fn has_changes(&self) -> bool {
        // Refreshing writes to the index otherwise, which is the user's.
        let status = self
            .git([
                "--no-optional-locks",
                "status",
                "--porcelain",
                "--untracked-files=no",
                "--ignore-submodules",
            ])
            .output();
        status.is_ok_and(|output| output.status.success() && !output.stdout.is_empty())
    }
}

fn command(dir: &Path) -> Command {
    let mut command = Command::new("git");
    // Messages are read; a pager or a question would hang.
    command.current_dir(dir).env("LC_ALL", "C").env("GIT_TERMINAL_PROMPT", "0").stdin(Stdio::null());
    command
}

/// Copies an index, and when it was written: git looks into files that are no older than their index and trusts the
/// size and times of all others ("racily clean" in git's Documentation/technical/racy-git.txt). By a copy that is younger,
/// what was saved in the second of a commit would count as unchanged.
fn copy_index(from: &Path, to: &Path) -> Result<()> {
    // One open file: git replaces the index by rename.
    let mut index = File::open(from).on("cannot open", from)?;
    let written = index.metadata().and_then(|meta| meta.modified()).on("cannot examine", from)?;
    let mut copy = File::create_new(to).on("cannot create", to)?;
    io::copy(&mut index, &mut copy).on("cannot copy", from)?;
    copy.set_modified(written).on("cannot set the time of", to)
}

/// What it prints. It must succeed.
fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().map_err(|error| not_started(&error))?;
    if output.status.success() { Ok(output.stdout) } else { Err(failed(&output.stderr)) }
}

/// The same, without the newline at its end.
fn read(command: &mut Command) -> Result<String> {
    output(command).map(|text| String::from_utf8_lossy(&trimmed(text)).into_owned())
}

/// What git itself says of it.
fn failed(stderr: &[u8]) -> CliError {
    CliError::new(Exit::Io, format!("git: {}", String::from_utf8_lossy(stderr).trim()))
}

/// git could not be started.
fn not_started(error: &std::io::Error) -> CliError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return CliError::new(Exit::Unsupported, "git is not installed, or not on PATH")
            .hint("install git: it decides what is sent");
    }
    CliError::new(Exit::Io, format!("cannot run git: {error}"))
}

/// A path may itself end with a newline: only git's own goes.
fn trimmed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    bytes
}
