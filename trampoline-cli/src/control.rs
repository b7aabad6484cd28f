//! What is asked of daemon-init, in the daemon container, where the client is root.

use contract::control::{Reply, Request};
use contract::places::{Container, DAEMON_INIT};

use crate::context::Context;
use crate::error::{CliError, Result, While};
use crate::lines::{self, Telling};
use crate::remote;
use crate::ui::Step;
use crate::wake;

/// Asks, and returns what the answer consists of; `step` shows how far it is. `doing` is for what becomes of it: `cannot list the roots`.
pub(crate) async fn ask(
    context: &Context,
    request: &Request,
    doing: &str,
    step: &mut Step,
) -> Result<Vec<Reply>> {
    let (mut code, mut answer, mut stderr) = once(context, request, step).await?;
    if wake::again(context, code).await? {
        (code, answer, stderr) = once(context, request, step).await?;
    }
    match code {
        0 => Ok(answer),
        _ if String::from_utf8_lossy(&stderr).contains("cannot make sense of") => {
            Err(CliError::other_version("this builder's image cannot be asked for that"))
        }
        _ => Err(remote::failed_with(doing, code, &stderr)),
    }
}

async fn once(context: &Context, request: &Request, step: &mut Step) -> Result<(i32, Vec<Reply>, Vec<u8>)> {
    let question = lines::written(request)?;
    let mut telling = Telling::start_in(context, Container::Daemon, &[DAEMON_INIT, "ask"], &question).await?;
    let mut answer = Vec::new();
    while let Some(line) = telling.next().await.during("cannot read the builder's answer")? {
        match lines::read(line.as_bytes(), "the builder's answer")? {
            Reply::Progress { message } => step.at(&message),
            reply => answer.push(reply),
        }
    }
    let (code, stderr) = telling.finish().await?;
    Ok((code, answer, stderr))
}
