//! `image load` and `image push`: from podman on this machine to where the builder's pod finds it.

use std::path::Path;
use std::process::Stdio;

use contract::exit::Exit;
use tokio::process::Command;

use crate::context::{Context, scratch_dir};
use crate::engine::last_line;
use crate::error::{CliError, OnPath, Result};

/// Puts the image on the nodes of a local cluster. `to` says how, where the cluster does not.
pub(super) async fn load(context: &Context, image: &str, to: Option<&str>) -> Result<()> {
    let argv = match to {
        Some(to) => to.split_whitespace().map(str::to_owned).collect(),
        None => context.engine.image_loader()?,
    };
    let Some((program, args)) = argv.split_first() else {
        return Err(CliError::usage("--to is empty")
            .hint("`--to 'PROGRAM ARGS'`: the archive's name is put behind them"));
    };
    super::local(context, image).await?;
    let dir = scratch_dir("trampoline-image-")?;
    let archive = dir.path().join("image.tar");
    let step = context.ui.step(format!("loading {image}"));
    podman(context, &["save", "--quiet", "--format", "docker-archive", "--output"], &archive, image).await?;
    run(context, program, args.iter().map(String::as_str).chain([archive.to_string_lossy().as_ref()]))
        .await?;
    step.done(&format!("loaded {image} with {program}"));
    Ok(())
}

/// Puts the image into a registry. Its name there, and its digest.
pub(super) async fn push(
    context: &Context,
    image: &str,
    destination: &str,
    plain_http: bool,
) -> Result<(String, String)> {
    let destination = full(destination)?;
    super::local(context, image).await?;
    let dir = scratch_dir("trampoline-image-")?;
    let file = dir.path().join("digest");
    let digestfile = file.to_string_lossy();
    let mut args = vec!["push", "--quiet", "--digestfile", &digestfile];
    if plain_http {
        args.push("--tls-verify=false");
    }
    let remote = format!("docker://{destination}");
    args.extend([image, &remote]);
    let step = context.ui.step(format!("pushing {image} to {destination}"));
    run(context, "podman", args).await.map_err(|error| match advice(&error.message) {
        Some(hint) => error.hint(hint),
        None => error,
    })?;
    step.done(&format!("pushed {destination}"));
    let digest = std::fs::read_to_string(&file).on("cannot read", &file)?;
    Ok((destination, digest.trim().to_owned()))
}

/// With this program's version as its tag if it has none.
fn full(destination: &str) -> Result<String> {
    let destination = destination.trim_start_matches("docker://");
    let name = destination.rsplit('/').next().unwrap_or_default();
    if !destination.contains('/') || name.is_empty() {
        return Err(CliError::usage(format!("{destination:?} names no image in a registry"))
            .hint("say REGISTRY/NAME, as in registry.example.org/team/nix-trampoline"));
    }
    if destination.contains('@') {
        return Err(CliError::usage(format!("{destination:?} has a digest, which a push only finds out"))
            .hint("leave it out, or give a tag"));
    }
    Ok(if name.contains(':') {
        destination.to_owned()
    } else {
        format!("{destination}:{}", env!("CARGO_PKG_VERSION"))
    })
}

fn advice(words: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 5] = [
        ("server gave HTTP response to HTTPS client", "the registry speaks plain HTTP: `--insecure`"),
        ("certificate", "its certificate is not trusted here: `--insecure` does without"),
        ("unauthorized", "log in first: `podman login REGISTRY`"),
        ("authentication required", "log in first: `podman login REGISTRY`"),
        ("denied", "log in first (`podman login REGISTRY`), as somebody who may push there"),
    ];
    KNOWN.iter().find(|(text, _)| words.contains(text)).map(|(_, hint)| *hint)
}

async fn podman(context: &Context, args: &[&str], path: &Path, image: &str) -> Result<()> {
    let path = path.to_string_lossy();
    run(context, "podman", args.iter().copied().chain([path.as_ref(), image])).await
}

/// To its end; what it says is only of interest when it fails.
async fn run<'a>(context: &Context, program: &str, args: impl IntoIterator<Item = &'a str>) -> Result<()> {
    let args: Vec<&str> = args.into_iter().collect();
    let line = format!("{program} {}", args.join(" "));
    context.ui.detail(format!("+ {line}"));
    let mut command = Command::new(program);
    command.args(&args).stdin(Stdio::null()).kill_on_drop(true);
    let output = command.output().await.map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            CliError::new(Exit::Unsupported, format!("{program} is not installed, or not on PATH")).hint(
                "install it, or put the image into a registry: `trampoline-cli image push REGISTRY/NAME`",
            )
        }
        _ => CliError::new(Exit::Unsupported, format!("cannot run {program}: {error}")),
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = if output.stderr.is_empty() { &output.stdout } else { &output.stderr };
    Err(CliError::engine(format!("`{line}` failed: {}", last_line(said))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_gets_a_tag() {
        let version = env!("CARGO_PKG_VERSION");
        for (given, name) in [
            ("reg.example.org/nt", Some(format!("reg.example.org/nt:{version}"))),
            ("reg.example.org:5000/a/nt", Some(format!("reg.example.org:5000/a/nt:{version}"))),
            ("reg.example.org:5000/nt:2", Some("reg.example.org:5000/nt:2".to_owned())),
            ("docker://reg.example.org/nt:2", Some("reg.example.org/nt:2".to_owned())),
            ("reg.example.org:5000", None),
            ("reg.example.org/", None),
            ("reg.example.org/nt@sha256:00", None),
        ] {
            assert_eq!(full(given).ok(), name, "{given}");
        }
    }
}
