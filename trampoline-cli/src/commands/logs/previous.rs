//! `logs --previous`: what is kept of an agent on the store volume, when the engine has it no more.

use std::io::Write;

use contract::exit::Exit;
use contract::places::{Container, DAEMON_INIT};

use crate::context::Context;
use crate::engine::{Observed, PodPhase, last_lines};
use crate::error::{CliError, Result};
use crate::{remote, wake};

/// Of the life before this one; of a builder that does not run, of its last one.
pub(super) async fn print(
    context: &Context,
    observed: &Observed,
    container: Container,
    tail: Option<u32>,
) -> Result<u8> {
    if !observed.exists() {
        return Err(wake::absent(context));
    }
    let output = match observed.phase() {
        PodPhase::Running | PodPhase::Stopping => {
            let argv = [DAEMON_INIT, "logs", container.name(), "--previous"];
            context.engine.exec(&context.name, Container::Daemon, &argv, &[]).await?
        }
        PodPhase::Starting => {
            return Err(CliError::new(Exit::Stopping, format!("builder {} is starting", context.name)).hint(
                "its store volume is not there yet: try again when `trampoline-cli status` says that it runs",
            ));
        }
        PodPhase::Absent | PodPhase::Broken | PodPhase::Stopped => {
            let image = &context.settings.config.builder.image;
            let image = observed.image.as_deref().unwrap_or(image);
            context
                .engine
                .on_store_volume(&context.name, image, &[DAEMON_INIT, "logs", container.name()])
                .await?
        }
    };
    if output.code != 0 {
        let doing = format!("cannot show what {} logged before", container.agent());
        return Err(remote::failed(&doing, &output));
    }
    let text = match tail {
        Some(lines) => last_lines(&output.stdout, lines),
        None => &output.stdout,
    };
    std::io::stdout().lock().write_all(text).map_err(|error| CliError::stdout(&error))?;
    Ok(0)
}
