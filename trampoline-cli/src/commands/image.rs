//! `image`: the builder's image, from what this program carries.

mod deliver;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;

use clap::{Args, Subcommand};
use contract::exit::Exit;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

use crate::context::{Context, scratch_dir};
use crate::embedded;
use crate::engine::Engine;
use crate::engine::podman::Podman;
use crate::error::{CliError, OnPath, Result, While};
use crate::global::Global;

/// Of `container/`.
const SCRIPT: &str = "build-image";

/// Make the image of builders, and bring it to a cluster
#[derive(Args)]
#[command(
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "\
Examples:
  trampoline-cli image build
  trampoline-cli image build --base docker.io/nixos/nix:2.26.3
  trampoline-cli image load                               to minikube, kind or k3d
  trampoline-cli image push registry.example.org/nix-trampoline"
)]
pub(crate) struct Image {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Build it from what this program carries
    ///
    /// From nixos/nix at a pinned version; where no registry answers, from Debian packages.
    #[command(
        after_help = "Examples:\n  trampoline-cli image build\n  trampoline-cli image build --base localhost/my-nix:1"
    )]
    Build {
        /// Image to begin with
        #[arg(long, value_name = "IMAGE")]
        base: Option<String>,
    },
    /// Put it on the nodes of a local cluster
    ///
    /// With the cluster's own program: minikube, kind or k3d, by the name of the kubeconfig's context. Builds it first if it is
    /// not there.
    #[command(after_help = "Examples:
  trampoline-cli image load
  trampoline-cli image load --to 'sudo ctr --namespace k8s.io images import'     on the node itself")]
    Load {
        /// Run this with the archive's name behind it instead
        #[arg(long, value_name = "COMMAND")]
        to: Option<String>,
    },
    /// Put it into a registry that the cluster pulls from
    ///
    /// The name there is on stdout: it belongs into `image` under [builder]. Builds it first if it is not there.
    #[command(after_help = "Examples:
  trampoline-cli image push registry.example.org/team/nix-trampoline
  trampoline-cli image push --insecure 10.0.0.5:5000/nix-trampoline:test")]
    Push {
        /// Its name there; the tag is this program's version if there is none
        #[arg(value_name = "REGISTRY/NAME")]
        destination: String,
        /// The image to send [default: `image` of trampoline.toml]
        #[arg(long, value_name = "IMAGE")]
        image: Option<String>,
        /// The registry has no certificate that this machine trusts, or speaks plain HTTP
        #[arg(long)]
        insecure: bool,
    },
}

impl Image {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let image = context.settings.config.builder.image.clone();
        match &self.what {
            What::Build { base } => {
                build(&context, &image, base.as_deref()).await?;
                let id = podman(&context).image_id(&image).await?;
                report(&context, &image, &serde_json::json!({ "image": image, "id": id }))
            }
            What::Load { to } => {
                deliver::load(&context, &image, to.as_deref()).await?;
                report(&context, &image, &serde_json::json!({ "image": image }))
            }
            What::Push { destination, image: other, insecure } => {
                let image = other.as_ref().unwrap_or(&image);
                let (name, digest) = deliver::push(&context, image, destination, *insecure).await?;
                report(&context, &name, &serde_json::json!({ "image": name, "digest": digest }))
            }
        }
    }
}

fn report(context: &Context, image: &str, object: &serde_json::Value) -> Result<u8> {
    if context.ui.json {
        context.ui.object(object)?
    } else {
        context.ui.data(image)?
    }
    Ok(0)
}

/// Images are made by podman, whatever runs the builder.
fn podman(context: &Context) -> Podman {
    Podman::new(context.ui)
}

/// podman on this machine has the image afterwards.
async fn local(context: &Context, image: &str) -> Result<()> {
    if podman(context).image_id(image).await?.is_some() {
        return Ok(());
    }
    context.ui.say(format!("there is no image {image} here yet: building it"));
    build(context, image, None).await
}

/// The image is there afterwards: it was, or is pulled or built.
pub(crate) async fn ensure(context: &Context) -> Result<()> {
    fetch(context).await?;
    check_system(context).await
}

/// `[builder] system`: an image for another platform would start, and build for that one.
async fn check_system(context: &Context) -> Result<()> {
    let builder = &context.settings.config.builder;
    let (Some(wanted), image) = (&builder.system, &builder.image) else { return Ok(()) };
    match context.engine.image_system(image).await? {
        Some(found) if found != *wanted => Err(CliError::new(
            Exit::Config,
            format!("builder.system asks for {wanted}, and the image {image} is for {found}"),
        )
        .hint("name an image for that platform with `image` under [builder], or leave `system` out")),
        _ => Ok(()),
    }
}

async fn fetch(context: &Context) -> Result<()> {
    let image = &context.settings.config.builder.image;
    if context.engine.fetches_images() {
        return Ok(());
    }
    if context.engine.image_id(image).await?.is_some() {
        return Ok(());
    }
    // `localhost/` is podman's name for what was never in a registry.
    if image.starts_with("localhost/") {
        context.ui.say(format!("there is no image {image} yet: building it"));
        return build(context, image, None).await;
    }
    let mut step = context.ui.step(format!("pulling {image}"));
    context.engine.pull(image, &mut step).await.map_err(|error| {
        error.hint(
            "check `image` under [builder], or leave it out: the default image is built on this machine",
        )
    })?;
    step.done(&format!("pulled {image}"));
    Ok(())
}

async fn build(context: &Context, image: &str, base: Option<&str>) -> Result<()> {
    if embedded::AGENTS.is_empty() {
        return Err(CliError::new(
            Exit::Unsupported,
            format!("there is no image {image}, and this trampoline-cli carries no agents to build it"),
        )
        .hint(
            "in a checkout of nix-trampoline, `./container/build-image` builds it; a program built with \
                   TRAMPOLINE_AGENTS_DIR=DIR (the four agents, static) carries them",
        ));
    }
    let dir = scratch_dir("trampoline-image-")?;
    unpack(&dir.path().join("container"), embedded::CONTAINER)?;
    unpack(&dir.path().join("agents"), embedded::AGENTS)?;
    let script = dir.path().join("container").join(SCRIPT);
    let mut command = Command::new(&script);
    command.args(["--agents"]).arg(dir.path().join("agents")).args(["--tag", image]);
    if let Some(base) = base {
        command.args(["--base", base]);
    }
    command
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| {
        CliError::new(Exit::Internal, format!("cannot run {}: {error}", script.display()))
    })?;
    let mut step = context.ui.step(format!("building {image}"));
    let mut words = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next_line().await.during("cannot read from the build of the image")? {
            step.at(line.trim());
            words.push(line);
        }
    }
    let status = child.wait().await.during("cannot wait for the build of the image")?;
    if status.success() {
        step.done(&format!("built {image}"));
        return Ok(());
    }
    step.clear();
    let last = words.iter().rev().take(5).rev().cloned().collect::<Vec<_>>().join("\n");
    Err(CliError::new(Exit::Engine, format!("cannot build {image}; the last words:\n{last}"))
        .hint("`trampoline-cli -v image build` says what is run; `--base IMAGE` chooses another base"))
}

fn unpack(dir: &Path, files: &[(&str, &[u8], bool)]) -> Result<()> {
    for (name, bytes, executable) in files {
        let path = dir.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).on("cannot create", parent)?;
        }
        fs::write(&path, bytes).on("cannot write", &path)?;
        let mode = if *executable { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))
            .on("cannot change the mode of", &path)?;
    }
    Ok(())
}
