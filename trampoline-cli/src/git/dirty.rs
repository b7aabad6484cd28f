//! The working tree as a tree object, without a trace in the user's repository: git adds to a copy of the index
//! and writes objects to a folder of ours.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Repo, Source, copy_index, not_started, read};
use crate::context::scratch_dir;
use crate::error::{CliError, OnPath, Result};

/// The working tree, to push. The folder must live as long as the source is used.
pub(crate) struct Dirty {
    /// What is pushed.
    pub(crate) source: Source,
    _objects: TempDir,
}

impl Repo {
    /// HEAD and all that is in the working tree, save what is ignored.
    pub(crate) fn working_tree(&self) -> Result<Dirty> {
        let scratch = scratch_dir("trampoline-")?;
        let env = self.scratch_env(scratch.path())?;
        // Nothing but the scratch index may be touched: no daemon that watches, no cache of its own.
        let add = [
            "-c",
            "core.fsmonitor=false",
            "-c",
            "advice.addEmbeddedRepo=false",
            "-c",
            "core.safecrlf=false",
            "add",
            "--all",
        ];
        let output = self.git(add).envs(env.iter().cloned()).output().map_err(|error| not_started(&error))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(CliError::new(
                contract::exit::Exit::Io,
                format!("cannot read the working tree: git: {words}"),
            ));
        }
        let tree = read(self.git(["write-tree"]).envs(env.iter().cloned()))?;
        let head = self.revision("HEAD").ok();
        let source = match head {
            Some(head) if head.tree == tree => head,
            head => {
                let label = head
                    .map_or_else(|| "working tree".to_owned(), |head| format!("{} + changes", head.label));
                Source { object: tree.clone(), tree, label, env }
            }
        };
        Ok(Dirty { source, _objects: scratch })
    }

    fn scratch_env(&self, scratch: &Path) -> Result<Vec<(OsString, OsString)>> {
        let index = self.git_path("index")?;
        let ours = scratch.join("index");
        if index.exists() {
            copy_index(&index, &ours)?;
        }
        let objects = scratch.join("objects");
        std::fs::create_dir(&objects).on("cannot create", &objects)?;
        let mut alternates = vec![self.git_path("objects")?];
        if let Some(more) = std::env::var_os("GIT_ALTERNATE_OBJECT_DIRECTORIES") {
            alternates.extend(std::env::split_paths(&more));
        }
        let alternates =
            std::env::join_paths(alternates.iter().map(|path| quoted(path))).map_err(|error| {
                CliError::new(
                    contract::exit::Exit::Io,
                    format!("cannot name the repository's objects: {error}"),
                )
            })?;
        Ok([
            ("GIT_INDEX_FILE", ours.into_os_string()),
            ("GIT_OBJECT_DIRECTORY", objects.into_os_string()),
            ("GIT_ALTERNATE_OBJECT_DIRECTORIES", alternates),
        ]
        .map(|(key, value)| (OsString::from(key), value))
        .to_vec())
    }
}

/// git reads a path with a colon in it if it is in double quotes, as in C.
fn quoted(path: &Path) -> PathBuf {
    let Some(text) = path.to_str().filter(|text| text.contains([':', '"', '\n'])) else {
        return path.to_owned();
    };
    // `join_paths` refuses the colon itself; octal does as well.
    PathBuf::from(format!(
        "\"{}\"",
        text.replace('\\', "\\\\").replace('"', "\\\"").replace(':', "\\072").replace('\n', "\\n")
    ))
}
