//! `build`: a job of the builder, followed from here.

mod follow;

use clap::Args;
use contract::exit::Exit;
use contract::job::{BuildRequest, Generation, JobEnd, JobStarted};

use crate::cli::Global;
use crate::context::{Context, current_dir};
use crate::error::Result;
use crate::git::Repo;
use crate::remote;
use crate::settings::owner;
use crate::wake;

/// Build something of the pushed tree, in the builder
///
/// Builds what was last pushed from this checkout: with -f that file, else the flake if there is one, else default.nix.
/// The log is on stderr, the store paths on stdout, the exit code is Nix's own. Ctrl-C cancels the build; a lost
/// connection does not.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli build                     the flake's default, or default.nix
  trampoline-cli build -f hello.nix
  trampoline-cli build packages.x86_64-linux.hello
  trampoline-cli build -f release.nix tests.unit -- --keep-failed
  path=$(trampoline-cli build -q -f hello.nix)")]
pub(crate) struct Build {
    /// A Nix file of the tree
    #[arg(long, short, value_name = "FILE")]
    file: Option<String>,
    /// Attributes of the file, or outputs of the flake
    #[arg(value_name = "ATTR")]
    attrs: Vec<String>,
    /// Passed to `nix build` as they are
    #[arg(last = true, value_name = "NIX-ARGS")]
    nix_args: Vec<String>,
    /// Build this project's current tree
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

impl Build {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let (project, pinned) = self.tree(&context)?;
        let request = BuildRequest {
            project,
            generation: pinned.as_ref().map(|generation| generation.generation),
            file: self.file.clone(),
            attrs: self.attrs.clone(),
            nix_args: self.nix_args.clone(),
            from: owner(),
        };
        // Elsewhere it is asked first: what stops builders there must know of us.
        if !context.engine.is_here() {
            wake::running(&context).await?;
        }
        let (job, connection) = follow::start(&context, &request).await?;
        context.ui.detail(format!("job {} builds {}", job.id, job.dir));
        moved_on(&context, pinned.as_ref(), &job);
        let end = follow::to_its_end(&context, &job.id, connection).await?;
        self.report(&context, &job, &end)
    }

    /// Which tree, and which generation of it.
    fn tree(&self, context: &Context) -> Result<(String, Option<Generation>)> {
        if let Some(project) = &self.project {
            return Ok((project.clone(), None));
        }
        let repo = Repo::required(&current_dir()?).map_err(|error| {
            error.hint("go to a checkout that was pushed, or name a pushed tree with --project")
        })?;
        match remote::pushed(context, &repo) {
            Some(generation) => Ok((generation.project.clone(), Some(generation))),
            // Pushed from another checkout, perhaps; the builder says if it was not.
            None => Ok((remote::project(context, &repo), None)),
        }
    }

    fn report(&self, context: &Context, job: &JobStarted, end: &JobEnd) -> Result<u8> {
        let ui = context.ui;
        if let Some(note) = &end.note {
            ui.warn(note);
        }
        if ui.json {
            ui.object(&serde_json::json!({
                "job": job.id, "generation": job.generation, "code": end.code,
                "cancelled": end.cancelled, "note": end.note, "outputs": end.outputs,
            }))?;
        } else {
            end.outputs.iter().try_for_each(|path| ui.data(path))?;
        }
        if end.cancelled {
            ui.say("the build was cancelled");
        } else if end.code != 0 {
            ui.warn(format!("the build failed with Nix's exit code {}", end.code));
        }
        Ok(u8::try_from(end.code & 0xff).unwrap_or(Exit::ChildFailed.code()))
    }
}

/// Somebody else may have pushed meanwhile: then what is built is not what is current, which a person should know.
fn moved_on(context: &Context, pinned: Option<&Generation>, job: &JobStarted) {
    let (Some(pinned), Some(current)) = (pinned, &job.current) else { return };
    context.ui.say(format!(
        "building generation {} of {} ({}), as pushed from here; {} has pushed generation {} since ({})",
        pinned.generation, pinned.project, pinned.label, current.from, current.generation, current.label
    ));
}
