//! The pushed tree that belongs to where the user stands.

use contract::job::Generation;
use contract::places::USER_INIT;
use serde::{Deserialize, Serialize};

use crate::context::{Context, current_dir};
use crate::engine::last_line;
use crate::error::{CliError, Result};
use crate::git::Repo;
use crate::render::digest;
use crate::wake;

/// What was last pushed from one checkout: two shells at once each build what they sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Pushed {
    /// Top folder of the checkout, for a person who reads the file.
    pub(crate) checkout: String,
    /// In the builder.
    pub(crate) generation: Generation,
}

/// A tree in the builder.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    /// Its project.
    pub(crate) project: String,
    /// The generation; none: the current one.
    pub(crate) generation: Option<u64>,
}

/// Name under which a checkout arrives.
pub(crate) fn project(context: &Context, repo: &Repo) -> String {
    if let Some(project) = &context.settings.config.builder.project {
        return project.clone();
    }
    let name = repo.top.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
    let name = name.trim_start_matches(['.', '-', '_']);
    let name: String = name.chars().take(64).collect();
    if name.is_empty() { "project".to_owned() } else { name }
}

fn file(repo: &Repo) -> String {
    format!("checkouts/{}.json", digest(repo.top.as_os_str().as_encoded_bytes()))
}

/// Remembers what was pushed from this checkout.
pub(crate) fn remember(context: &Context, repo: &Repo, generation: &Generation) -> Result<()> {
    let pushed = Pushed { checkout: repo.top.display().to_string(), generation: generation.clone() };
    context.state.write(&file(repo), &pushed)
}

/// What was last pushed from this checkout.
pub(crate) fn pushed(context: &Context, repo: &Repo) -> Option<Generation> {
    context.state.read::<Pushed>(&file(repo)).map(|pushed| pushed.generation)
}

/// All trees of the builder.
pub(crate) async fn projects(context: &Context) -> Result<Vec<Generation>> {
    let output = wake::exec(context, &[USER_INIT, "projects"], &[]).await?;
    if output.code != 0 {
        return Err(failed("cannot list the pushed trees", &output));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| {
        CliError::new(
            contract::exit::Exit::Internal,
            format!("cannot read the list of pushed trees: {error}"),
        )
    })
}

/// A command of user-init failed: its code is one of ours, its last line the reason.
pub(crate) fn failed(doing: &str, output: &crate::engine::Output) -> CliError {
    failed_with(doing, output.code, &output.stderr)
}

/// The same, from its parts.
pub(crate) fn failed_with(doing: &str, code: i32, stderr: &[u8]) -> CliError {
    let words = reason(stderr);
    let exit = contract::exit::Exit::from_code(code).unwrap_or(contract::exit::Exit::Engine);
    let error = CliError::new(
        exit,
        if words.is_empty() { format!("{doing} (exit code {code})") } else { format!("{doing}: {words}") },
    );
    match exit {
        contract::exit::Exit::Stopping => {
            error.hint("the builder is stopping: try again when it has stopped")
        }
        _ => error,
    }
}

/// What the agent says, or the last line of whoever could not run it.
fn reason(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let said = |line: &'_ str| {
        ["user-init: ", "daemon-init: "].iter().find_map(|who| line.strip_prefix(who).map(str::to_owned))
    };
    let said = text.lines().rev().find_map(|line| said(line.trim()));
    said.unwrap_or_else(|| last_line(stderr).trim_start_matches("Error: ").to_owned())
}

/// The tree of the checkout around the current folder, if it was pushed. The builder must run.
pub(crate) async fn tree_here(context: &Context) -> Result<Option<Tree>> {
    // Without git there is no checkout to speak of.
    let Ok(Some(repo)) = Repo::around(&current_dir()?) else { return Ok(None) };
    if let Some(generation) = pushed(context, &repo) {
        return Ok(Some(Tree { project: generation.project, generation: Some(generation.generation) }));
    }
    let name = project(context, &repo);
    let found = projects(context)
        .await?
        .into_iter()
        .find(|generation| generation.project == name && generation.current);
    Ok(found.map(|generation| Tree { project: generation.project, generation: None }))
}
