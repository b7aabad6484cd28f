//! Images.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};

use super::command;
use crate::error::{CliError, Result, While};
use crate::ui::{Step, Ui};

/// The image's id, if podman has it.
pub(super) async fn id(ui: Ui, image: &str) -> Result<Option<String>> {
    let output = command::output(ui, &["image", "inspect", "--format", "{{.Id}}", image], None).await?;
    Ok((output.code == 0).then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned()))
}

/// Nix's name of the platform that the image is for.
pub(super) async fn system(ui: Ui, image: &str) -> Result<Option<String>> {
    let output =
        command::output(ui, &["image", "inspect", "--format", "{{.Architecture}}", image], None).await?;
    let architecture = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.code == 0).then(|| match architecture.as_str() {
        "amd64" => "x86_64-linux".to_owned(),
        "arm64" => "aarch64-linux".to_owned(),
        other => format!("{other}-linux"),
    }))
}

/// Fetches it; podman's own lines show where it stands.
pub(super) async fn pull(ui: Ui, image: &str, step: &mut Step) -> Result<()> {
    let mut child = command::command(ui, ["pull", image])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| command::not_started(&error))?;
    let mut last = String::new();
    if let Some(stderr) = child.stderr.take() {
        let mut lines = BufReader::new(stderr).lines();
        while let Some(line) = lines.next_line().await.during("cannot read from podman")? {
            if !line.trim().is_empty() {
                step.at(line.trim());
                line.trim().clone_into(&mut last);
            }
        }
    }
    let status = child.wait().await.during("cannot wait for podman")?;
    if status.success() {
        return Ok(());
    }
    Err(CliError::engine(format!("cannot pull {image}: {last}")))
}
