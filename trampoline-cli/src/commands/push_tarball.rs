//! `push-tarball`: what git knows, into the builder.

use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use clap::Args;
use contract::config::Text;
use contract::exit::Exit;
use contract::job::{Encoding, Generation, PushAnswer, PushHeader};
use contract::places::Container;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::cli::Global;
use crate::context::{Context, current_dir};
use crate::engine::Stream;
use crate::error::{CliError, OnPath, Result, While};
use crate::git::archive::{self, Archive};
use crate::git::{Repo, Source};
use crate::remote;
use crate::settings::owner;
use crate::ui;
use crate::wake::{self, USER_INIT};

/// Bytes that are in flight at once.
const PART: usize = 1 << 20;

/// Send what `git archive` holds into the builder
///
/// The tree arrives as a new generation of the project and becomes current once it is there whole. An unchanged tree
/// sends nothing. Submodules are empty folders in an archive; they are named in a warning.
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
    /// Write the archive to this file instead of sending it
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
            warn_of_submodules(ui, &repo, &source)?;
            let mut archive = archive::make(&repo, &source, archive::scratch()?)?;
            let mut file = std::fs::File::create(output).on("cannot write", output)?;
            std::io::copy(&mut archive.file, &mut file).on("cannot write", output)?;
            return Ok(0);
        }
        let context = Context::new(global)?;
        let project = self.project_name(&context, &repo)?;
        let (archive, stream) = {
            let file = archive::scratch()?;
            let handed = file.try_clone().during("cannot hand over a file")?;
            tokio::try_join!(pack(&repo, &source, file), receiver(&context, &handed))?
        };
        warn_of_submodules(ui, &repo, &source)?;
        let header = PushHeader {
            project,
            bytes: archive.bytes,
            sha256: archive.sha256.clone(),
            label: source.label.clone(),
            from: owner(),
            encoding: Encoding::Plain,
        };
        let mut archive = archive;
        let generation = match send(&context, stream, &mut archive, &header).await {
            Err(error) if wake::again(&context, i32::from(error.exit.code())).await? => {
                let again = archive.file.try_clone().during("cannot hand over a file")?;
                send(&context, receiver(&context, &again).await?, &mut archive, &header).await?
            }
            result => result?,
        };
        remote::remember(&context, &repo, &generation)?;
        self.report(&context, &repo, &header, &generation)
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

    fn report(
        &self,
        context: &Context,
        repo: &Repo,
        header: &PushHeader,
        generation: &Generation,
    ) -> Result<u8> {
        let ui = context.ui;
        if ui.json {
            ui.object(generation)?;
        } else {
            let what =
                format!("{} as {} generation {}", header.label, generation.project, generation.generation);
            let size = ui::bytes(header.bytes);
            ui.say(if generation.unchanged {
                format!("{what} is there already")
            } else {
                format!("pushed {what}, {size}")
            });
            ui.data(&generation.path)?;
        }
        if !self.dirty && self.revision.is_none() && repo.has_changes() {
            ui.say("what is not committed was not sent (`push-tarball --dirty` sends it)");
        }
        Ok(0)
    }
}

fn warn_of_submodules(ui: ui::Ui, repo: &Repo, source: &Source) -> Result<()> {
    let submodules = repo.submodules(source)?;
    if !submodules.is_empty() {
        ui.warn(format!(
            "{} is a submodule and arrives as an empty folder (`git archive` does not follow submodules)",
            submodules.join(", ")
        ));
    }
    Ok(())
}

/// On a thread of its own: git and the hash keep one busy.
async fn pack(repo: &Repo, source: &Source, file: File) -> Result<Archive> {
    let (repo, source) = (repo.clone(), source.clone());
    tokio::task::spawn_blocking(move || archive::make(&repo, &source, file))
        .await
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot make the archive: {error}")))?
}

/// Started while the archive is made: an exec takes as long as a small archive. It opens the file when it has the header,
/// which comes when the file is whole.
async fn receiver(context: &Context, file: &File) -> Result<Stream> {
    wake::running(context).await?;
    let engine = &context.engine;
    if !engine.hands_over_files() {
        return engine.stream(&context.name, Container::User, &[USER_INIT, "receive"], None).await;
    }
    let file = OwnedFd::from(file.try_clone().during("cannot hand over a file")?);
    engine.stream(&context.name, Container::User, &[USER_INIT, "receive", "--fd", "3"], Some(file)).await
}

async fn send(
    context: &Context,
    mut stream: Stream,
    archive: &mut Archive,
    header: &PushHeader,
) -> Result<Generation> {
    let mut line = serde_json::to_vec(header)
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot write JSON: {error}")))?;
    line.push(b'\n');
    let mut answers = BufReader::new(std::mem::replace(&mut stream.stdout, Box::new(tokio::io::empty())));
    // A receiver that refuses says why by its exit code; a broken pipe is only the consequence.
    let _ = stream.stdin.write_all(&line).await;
    let _ = stream.stdin.flush().await;
    let mut done = None;
    loop {
        line.clear();
        if answers.read_until(b'\n', &mut line).await.during("cannot read from the builder")? == 0 {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(PushAnswer::Done(generation)) => done = Some(generation),
            // It has the file.
            Ok(PushAnswer::Send) if context.engine.hands_over_files() => {}
            Ok(PushAnswer::Send) => {
                let step = context.ui.step(format!("sending {}", header.label));
                let sent = copy(archive, &mut stream, step).await;
                context.ui.detail(format!("sent: {sent:?}"));
            }
            Err(error) => {
                return Err(CliError::new(
                    Exit::Internal,
                    format!("cannot read the builder's answer: {error}"),
                )
                .hint(
                    "client and image are of different versions: `trampoline-cli setup` brings them together",
                ));
            }
        }
    }
    let (code, words) = stream.finish().await?;
    match done {
        Some(generation) if code == 0 => Ok(generation),
        _ => Err(remote::failed_with("the builder did not take the archive", code, &words)),
    }
}

async fn copy(archive: &mut Archive, stream: &mut Stream, mut step: ui::Step) -> std::io::Result<u64> {
    archive.file.seek(SeekFrom::Start(0))?;
    let mut file = tokio::fs::File::from_std(archive.file.try_clone()?);
    file.set_max_buf_size(PART);
    let mut part = vec![0; PART];
    let mut sent = 0;
    loop {
        let n = file.read(&mut part).await?;
        if n == 0 {
            break;
        }
        stream.stdin.write_all(&part[..n]).await?;
        sent += n as u64;
        step.progress(sent, archive.bytes);
    }
    stream.stdin.flush().await?;
    step.clear();
    Ok(sent)
}
