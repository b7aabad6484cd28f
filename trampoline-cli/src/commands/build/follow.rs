//! The log of a job as it grows, over as many connections as it takes.

use std::time::Duration;

use contract::exit::Exit;
use contract::job::{BuildRequest, FollowEvent, JobEnd, JobStarted};
use contract::places::{Container, USER_INIT};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::context::Context;
use crate::error::{CliError, Result, While};
use crate::lines::{self, Telling};
use crate::nixlog::Renderer;
use crate::remote;
use crate::ui::Step;
use crate::wake;

/// A builder that is about to stop decides within a minute.
const ANSWER: Duration = Duration::from_secs(300);
/// Connections that may end without a word, one after another.
const TRIES: u32 = 5;
/// Before the next one.
const PAUSE: Duration = Duration::from_millis(500);

/// Starts the job. Whether the builder runs is not asked before: it does, mostly, and to ask takes as long as to start.
pub(super) async fn start(context: &Context, request: &BuildRequest) -> Result<(JobStarted, Telling)> {
    let input = lines::written(request)?;
    let mut again = false;
    loop {
        let mut connection =
            Telling::start(context, &[USER_INIT, "job", "start", "--follow"], &input).await?;
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

/// Prints the log; Ctrl-C cancels the job and goes on to its end, a second one leaves it.
pub(super) async fn to_its_end(context: &Context, id: &str, first: Telling) -> Result<JobEnd> {
    let mut interrupt = signal(SignalKind::interrupt()).during("cannot watch for signals")?;
    let mut renderer = Renderer::new(context.ui.verbose, context.ui.tty);
    let mut step = context.ui.step("building");
    let mut place = Place { next: 0, cancelled: false };
    let mut silent = 0;
    let mut first = Some(first);
    loop {
        let before = place.next;
        let end = match first.take() {
            Some(connection) => Ok(connection),
            None => {
                let from = place.next.to_string();
                Telling::start(context, &[USER_INIT, "job", "follow", id, "--from", &from], &[]).await
            }
        };
        let end = match end {
            Ok(connection) => {
                read(context, id, connection, &mut place, &mut renderer, &mut step, &mut interrupt).await
            }
            Err(error) => Err(error),
        };
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

async fn read(
    context: &Context,
    id: &str,
    mut connection: Telling,
    place: &mut Place,
    renderer: &mut Renderer,
    step: &mut Step,
    interrupt: &mut Signal,
) -> Result<Option<JobEnd>> {
    loop {
        let line = tokio::select! {
            line = connection.next() => line.during("cannot read the build's log")?,
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
    let (code, words) = connection.finish().await?;
    match Exit::from_code(code) {
        Some(Exit::Ok) | None => Ok(None),
        Some(_) => Err(remote::failed_with("cannot follow the build", code, &words)),
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
    if output.code == 0 { Ok(()) } else { Err(remote::failed("cannot cancel the build", &output)) }
}
