//! `build`: a job of the builder, followed from here.

use std::time::Duration;

use clap::Args;
use contract::exit::Exit;
use contract::job::{BuildRequest, Generation, JobStarted, JobState};
use contract::places::USER_INIT;

use crate::context::{Context, current_dir};
use crate::error::{CliError, Result, While};
use crate::git::Repo;
use crate::global::Global;
use crate::jobs::{self, Log};
use crate::lines::{self, Telling};
use crate::remote;
use crate::settings::owner;
use crate::wake;

/// Build something of the pushed tree, in the builder
///
/// Builds what was last pushed from this checkout: with -f that file, else the flake if there is one, else default.nix.
/// The log is on stderr, the store paths on stdout, the exit code is Nix's own.
///
/// The build belongs to the builder: a lost connection, a closed terminal or a killed client leaves it alone. Ctrl-C asks
/// whether to cancel it or to leave it to itself (exit code 130), and pressed again leaves it; without a terminal it
/// cancels. Exit code 75: the builder ended before the build did.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli build                     the flake's default, or default.nix
  trampoline-cli build -f hello.nix
  trampoline-cli build packages.x86_64-linux.hello
  trampoline-cli build -f release.nix tests.unit -- --keep-failed
  path=$(trampoline-cli build -q -f hello.nix)
  trampoline-cli build --detach            prints the build's number and leaves it to itself: `attach`, `jobs`")]
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
    /// Print the build's number as soon as it is accepted, and do not follow it
    #[arg(long, short)]
    detach: bool,
}

/// A builder that is about to stop decides within a minute.
const ANSWER: Duration = Duration::from_secs(300);

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
        let (job, connection) = start(&context, &request, self.detach).await?;
        context.ui.detail(format!("build {} builds {}", job.id, job.dir));
        moved_on(&context, pinned.as_ref(), &job);
        if job.queued > 0 {
            let others =
                if job.queued == 1 { "one other".to_owned() } else { format!("{} others", job.queued) };
            context.ui.say(format!("build {} is queued behind {others}", job.id));
        }
        if self.detach {
            return detached(&context, &job);
        }
        let log = Log::begun(&context, &job.id, connection);
        let outcome = jobs::to_its_end(&context, &job.id, log).await?;
        jobs::report(&context, &job.id, Some(job.generation), &outcome)
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
}

fn detached(context: &Context, job: &JobStarted) -> Result<u8> {
    let ui = context.ui;
    if ui.json {
        let state = if job.queued > 0 { JobState::Queued } else { JobState::Running };
        ui.object(&serde_json::json!({ "job": job.id, "state": state, "generation": job.generation }))?;
    } else {
        ui.data(&job.id)?;
    }
    ui.say(format!("`trampoline-cli attach {}` follows it, and ends as it does", job.id));
    Ok(0)
}

/// Starts the job. Whether the builder runs is not asked before: it does, mostly, and to ask takes as long as to start.
async fn start(context: &Context, request: &BuildRequest, detach: bool) -> Result<(JobStarted, Telling)> {
    let input = lines::written(request)?;
    let mut argv = vec![USER_INIT, "job", "start"];
    argv.extend((!detach).then_some("--follow"));
    let mut again = false;
    loop {
        let mut connection = Telling::start(context, &argv, &input).await?;
        let first = tokio::time::timeout(ANSWER, connection.next()).await.map_err(|_| {
            CliError::new(Exit::Deadline, format!("the builder did not answer within {} s", ANSWER.as_secs()))
                .hint("`trampoline-cli status` and `trampoline-cli logs user` show what it is at")
        })?;
        if let Some(line) = first.during("cannot read the builder's answer")? {
            let started = lines::read(line.as_bytes(), "the builder's answer")?;
            return Ok((started, connection));
        }
        let (code, words) = connection.finish().await?;
        // Said by user-init and by nobody else, so that it is worth another try even if the builder is well by now.
        let refused = code == i32::from(Exit::Stopping.code());
        if again || !(wake::again(context, code).await? || refused) {
            let error = remote::failed_with("cannot start the build", code, &words);
            return Err(match error.exit {
                Exit::Usage | Exit::Config => {
                    error.hint("`trampoline-cli push-tarball` sends the tree that is built")
                }
                _ => error,
            });
        }
        again = true;
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
