//! The log of a job as it grows, over as many connections as it takes.

use std::time::Duration;

use contract::exit::Exit;
use contract::job::{FollowEvent, JobEnd};
use contract::places::Container;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::error::{CliError, Result, While};
use crate::nixlog::Renderer;
use crate::ui::Step;
use crate::wake::{self, USER_INIT};

/// Connections that may end without a word, one after another.
const TRIES: u32 = 5;
/// Before the next one.
const PAUSE: Duration = Duration::from_millis(500);

/// Prints the log; Ctrl-C cancels the job and goes on to its end, a second one leaves it.
pub(super) async fn to_its_end(context: &Context, id: &str) -> Result<JobEnd> {
    let mut interrupt = signal(SignalKind::interrupt()).during("cannot watch for signals")?;
    let mut renderer = Renderer::new(context.ui.verbose, context.ui.tty);
    let mut step = context.ui.step("building");
    let mut place = Place { next: 0, cancelled: false };
    let mut silent = 0;
    loop {
        let before = place.next;
        let end = connection(context, id, &mut place, &mut renderer, &mut step, &mut interrupt).await;
        match end {
            Ok(Some(end)) => {
                step.clear();
                return Ok(end);
            }
            Err(error) if error.exit != Exit::Io && error.exit != Exit::Stopping => return Err(error),
            Ok(None) | Err(_) => {}
        }
        silent = if place.next == before { silent + 1 } else { 0 };
        if silent >= TRIES {
            return Err(CliError::new(Exit::Engine, "the connection to the builder is lost; the build goes on there")
                .hint("`trampoline-cli status` shows whether it still runs; building the same again picks up its result"));
        }
        context.ui.detail("the connection was lost; following again");
        tokio::time::sleep(PAUSE).await;
        wake::running(context).await?;
    }
}

/// How far we are.
struct Place {
    /// Byte of the log behind what was printed.
    next: u64,
    /// Ctrl-C was pressed.
    cancelled: bool,
}

async fn connection(
    context: &Context,
    id: &str,
    place: &mut Place,
    renderer: &mut Renderer,
    step: &mut Step,
    interrupt: &mut Signal,
) -> Result<Option<JobEnd>> {
    let from = place.next.to_string();
    let argv = [USER_INIT, "job", "follow", id, "--from", &from];
    let mut stream = context.engine.stream(&context.name, Container::User, &argv, None).await?;
    let mut lines =
        BufReader::new(std::mem::replace(&mut stream.stdout, Box::new(tokio::io::empty()))).lines();
    loop {
        let line = tokio::select! {
            line = lines.next_line() => line.during("cannot read the build's log")?,
            _ = interrupt.recv() => {
                cancel(context, id, place, step).await?;
                continue;
            }
        };
        let Some(line) = line else { break };
        match serde_json::from_str(&line) {
            Ok(FollowEvent::Log { lines, next }) => {
                lines.iter().for_each(|line| renderer.line(line, step));
                place.next = next;
            }
            Ok(FollowEvent::End(end)) => return Ok(Some(end)),
            Err(error) => {
                return Err(CliError::new(Exit::Internal, format!("cannot read the build's log: {error}")));
            }
        }
    }
    let (code, words) = stream.finish().await?;
    match Exit::from_code(code) {
        Some(Exit::Ok) | None => Ok(None),
        Some(_) => Err(crate::remote::failed_with("cannot follow the build", code, &words)),
    }
}

async fn cancel(context: &Context, id: &str, place: &mut Place, step: &Step) -> Result<()> {
    if place.cancelled {
        return Err(CliError::new(Exit::ChildFailed, "left before the build had ended"));
    }
    place.cancelled = true;
    step.print("cancelling the build; Ctrl-C again leaves without waiting for its end");
    let output =
        context.engine.exec(&context.name, Container::User, &[USER_INIT, "job", "cancel", id], &[]).await?;
    if output.code == 0 { Ok(()) } else { Err(crate::remote::failed("cannot cancel the build", &output)) }
}
