//! `push-tarball`: what git knows, into the builder.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use contract::config::Text;
use contract::exit::Exit;
use contract::hex;
use contract::job::{Generation, PushHeader};
use contract::tree::Kind;
use sha2::{Digest, Sha256};

use crate::context::{Context, current_dir};
use crate::error::{CliError, OnPath, Result};
use crate::git::{Repo, Stopped, Tree};
use crate::global::Global;
use crate::push::{self, Pushed};
use crate::remote;
use crate::settings::owner;
use crate::ui;

/// Send what `git archive` holds into the builder
///
/// The tree arrives as a new generation of the project and becomes current once it is there whole. Only files that the
/// builder lacks are sent. Submodules are empty folders in an archive; they are named in a warning.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli push-tarball              what HEAD holds
  trampoline-cli push-tarball v1.2         a tag, a branch, a commit
  trampoline-cli push-tarball --dirty      with what is not committed (but not what is ignored)")]
pub(crate) struct PushTarball {
    /// What to send: anything that git understands [default: HEAD]
    #[arg(value_name = "REV", conflicts_with = "dirty")]
    revision: Option<String>,
    /// Send the working tree, save what is ignored; your repository is not touched
    #[arg(long)]
    dirty: bool,
    /// Name under which it arrives [default: `project` of trampoline.toml, else the checkout's folder]
    #[arg(long, value_name = "NAME")]
    project: Option<String>,
    /// Write what would be sent to a builder that lacks all of it to this file instead
    #[arg(long, value_name = "FILE", hide = true)]
    output: Option<PathBuf>,
}

impl PushTarball {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let ui = global.ui();
        let repo = Repo::required(&current_dir()?)?;
        let dirty = if self.dirty { Some(repo.working_tree()?) } else { None };
        let source = match &dirty {
            Some(dirty) => dirty.source.clone(),
            None => repo.revision(self.revision.as_deref().unwrap_or("HEAD"))?,
        };
        if let Some(output) = &self.output {
            let tree = Tree::of(&repo, &source)?;
            warn_of_submodules(ui, &tree);
            write(&tree, output)?;
            return Ok(0);
        }
        let context = Context::new(global)?;
        let project = self.project_name(&context, &repo)?;
        let list = {
            let (repo, source) = (repo.clone(), source.clone());
            tokio::task::spawn_blocking(move || Tree::of(&repo, &source))
        };
        let list = async {
            list.await
                .map_err(|error| CliError::new(Exit::Internal, format!("cannot list the tree: {error}")))?
        };
        // An exec takes as long as git does.
        let (tree, receiver) = tokio::try_join!(list, push::receiver(&context))?;
        warn_of_submodules(ui, &tree);
        let manifest = tree.manifest();
        let header = PushHeader {
            project,
            manifest: manifest.len() as u64,
            sha256: hex(&Sha256::digest(&manifest)),
            label: source.label.clone(),
            from: owner(),
            zstd: receiver.packs(),
        };
        let tree = Arc::new(tree);
        // While the tree is on its way.
        let changes = {
            let (repo, asked) = (repo.clone(), !self.dirty && self.revision.is_none());
            tokio::task::spawn_blocking(move || asked && repo.has_changes())
        };
        let pushed = push::push(&context, receiver, &tree, &header, &manifest).await?;
        remote::remember(&context, &repo, &pushed.generation)?;
        report(&context, &header.label, &tree, &pushed)?;
        if changes.await.unwrap_or_default() {
            ui.say("what is not committed was not sent (`push-tarball --dirty` sends it)");
        }
        Ok(0)
    }

    fn project_name(&self, context: &Context, repo: &Repo) -> Result<String> {
        let Some(name) = &self.project else { return Ok(remote::project(context, repo)) };
        let fine = name.len() <= 64
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if fine {
            return Ok(name.clone());
        }
        Err(CliError::usage(format!("--project {name:?} cannot name a folder of the builder"))
            .hint(Text::Project.form()))
    }
}

fn report(
    context: &Context,
    label: &str,
    tree: &Tree,
    Pushed { generation, files, bytes }: &Pushed,
) -> Result<()> {
    let ui = context.ui;
    if ui.json {
        return ui.object(generation);
    }
    let Generation { project, generation: number, .. } = generation;
    let what = format!("{label} as {project} generation {number}");
    let all = tree.entries().iter().filter(|entry| matches!(entry.kind, Kind::File { .. })).count();
    ui.say(if generation.unchanged {
        format!("{what} is there already")
    } else if *files == 0 {
        format!("pushed {what}; all content was there")
    } else {
        format!("pushed {what}: {files} of {all} files, {}", ui::bytes(*bytes))
    });
    ui.data(&generation.path)
}

fn warn_of_submodules(ui: ui::Ui, tree: &Tree) {
    if !tree.submodules.is_empty() {
        ui.warn(format!(
            "{} is a submodule and arrives as an empty folder (`git archive` does not follow submodules)",
            tree.submodules.join(", ")
        ));
    }
}

/// The manifest behind its length, then every file.
fn write(tree: &Tree, output: &std::path::Path) -> Result<()> {
    let mut file = std::fs::File::create(output).on("cannot write", output)?;
    let manifest = tree.manifest();
    let bytes = [&(manifest.len() as u64).to_le_bytes(), manifest.as_slice()].concat();
    std::io::Write::write_all(&mut file, &bytes).on("cannot write", output)?;
    let files: Vec<u32> = (0..)
        .zip(tree.entries())
        .filter(|(_, entry)| matches!(entry.kind, Kind::File { .. }))
        .map(|(index, _)| index)
        .collect();
    match tree.send(&files, false, &mut file, |_, _| {}) {
        Err(Stopped::Sink(error)) => Err(error).on("cannot write", output),
        Err(Stopped::Ours(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}
