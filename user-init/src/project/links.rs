//! The `result` links in a tree. They are ours: the roots that keep the results alive are in the jobs' folders, outside the
//! tree. While a build evaluates there must be none in it, or a flake given by path would hash them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use agent::files;
use serde::{Deserialize, Serialize};

use super::{Meta, Project};
use crate::error::{Error, Result, io_error};

/// `.meta/results.json`: the links that the project's newest tree should have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Links {
    /// The job whose folder holds the roots.
    pub job: String,
    /// Name (`result`, `result-1`, `result-dev`) and store path.
    pub links: Vec<(String, String)>,
}

const FILE: &str = "results.json";

impl Links {
    /// What the project's last build made; nothing before the first.
    #[must_use]
    pub fn of(project: &Project) -> Self {
        files::read_json(&project.meta_dir().join(FILE)).ok().flatten().unwrap_or_default()
    }

    /// The links that `nix build --out-link JOB/result` left in the job's folder.
    #[must_use]
    pub fn made_by(job: &str, dir: &Path) -> Self {
        let mut links = Vec::new();
        for name in super::names(dir).unwrap_or_default() {
            if !is_result(&name) {
                continue;
            }
            if let Some(target) =
                fs::read_link(dir.join(&name)).ok().and_then(|t| t.into_os_string().into_string().ok())
            {
                links.push((name, target));
            }
        }
        links.sort();
        Self { job: job.to_owned(), links }
    }
}

/// Names that `nix build` gives its links.
fn is_result(name: &str) -> bool {
    name == "result" || name.starts_with("result-")
}

/// Whether a link of that name in the tree was made by us or by a build by hand, and did not come with the tree.
pub(super) fn is_ours(tree: &Path, name: &str, meta: Option<&Meta>) -> bool {
    is_result(name)
        && meta.is_none_or(|m| !m.results.iter().any(|r| r == name))
        && fs::read_link(tree.join(name)).is_ok_and(|target| target.starts_with("/nix/store"))
}

/// Takes our links out of the tree.
///
/// # Errors
/// When one cannot be removed.
pub fn before_job(project: &Project, generation: u64) -> Result<()> {
    let tree = project.tree(generation);
    let meta = project.meta(generation)?;
    for name in super::names(&tree)? {
        if is_ours(&tree, &name, meta.as_ref()) {
            files::withdraw(&tree.join(&name)).map_err(Error::from)?;
        }
    }
    Ok(())
}

/// Records what a job made, if anything, and puts the links of the last build that made some into the tree again; not while
/// another job evaluates there (`alone` is false): the last one does it for all.
///
/// # Errors
/// When the record or a link cannot be written.
pub fn after_job(project: &Project, generation: u64, made: Links, alone: bool) -> Result<()> {
    let links = if made.links.is_empty() {
        Links::of(project)
    } else {
        files::write_json(&project.meta_dir(), FILE, &made)?;
        made
    };
    if !alone {
        return Ok(());
    }
    before_job(project, generation)?;
    place(&project.tree(generation), &links)
}

/// Makes the links where nothing of that name is.
pub(super) fn place(tree: &Path, links: &Links) -> Result<()> {
    for (name, target) in &links.links {
        let path = tree.join(name);
        match symlink(target, &path) {
            Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(io_error("link", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}
