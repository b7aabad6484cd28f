//! Following a build on the screen to its end, or until somebody leaves it.

use std::future::pending;

use contract::job::JobEnd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::question::{self, Answer};
use super::{Log, Piece, tell};
use crate::context::Context;
use crate::error::{Result, While};
use crate::nixlog::{Lines, Renderer};
use crate::ui::Step;

/// As shells tell of the signals that end a command.
const INTERRUPTED: u8 = 130;
/// SIGHUP: the terminal is gone.
const HUNG_UP: u8 = 129;
/// SIGTERM.
const TERMINATED: u8 = 143;

/// How following ended.
pub(crate) enum Outcome {
    /// With the build.
    Ended(JobEnd),
    /// Before it; the exit code to end with.
    Left(u8),
}

/// Shows the log. Ctrl-C asks what it means, or cancels where nobody can answer, and a second one leaves; what else ends a
/// client leaves the build alone.
pub(crate) async fn to_its_end(context: &Context, id: &str, log: Log<'_>) -> Result<Outcome> {
    let watch = |kind| signal(kind).during("cannot watch for signals");
    let mut interrupt = watch(SignalKind::interrupt())?;
    let (mut terminate, mut hang_up) = (watch(SignalKind::terminate())?, watch(SignalKind::hangup())?);
    let mut screen = Screen::new(context, log);
    let mut asked: Option<JoinHandle<Answer>> = None;
    let mut cancelling = false;
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => return Ok(screen.leave(id, TERMINATED)),
            _ = hang_up.recv() => return Ok(screen.leave(id, HUNG_UP)),
            _ = interrupt.recv() => {
                if asked.is_some() || cancelling {
                    return Ok(screen.leave(id, INTERRUPTED));
                }
                screen.log.interrupted();
                screen.hide();
                asked = question::ask(context.ui, id);
                if asked.is_none() {
                    cancelling = true;
                    if !cancelled(context, id, &mut interrupt).await? {
                        return Ok(screen.leave(id, INTERRUPTED));
                    }
                }
            }
            answer = answer(&mut asked) => {
                asked = None;
                match answer {
                    Answer::Follow => context.ui.say(format!("following build {id} again")),
                    Answer::Detach => return Ok(screen.leave(id, INTERRUPTED)),
                    Answer::Cancel => {
                        cancelling = true;
                        if !cancelled(context, id, &mut interrupt).await? {
                            return Ok(screen.leave(id, INTERRUPTED));
                        }
                    }
                }
            }
            // Whoever is asked something reads no log.
            piece = screen.log.next(), if asked.is_none() => match piece? {
                Piece::Bytes(bytes) => screen.show(&bytes),
                Piece::SoFar => {}
                Piece::End(end) => {
                    screen.end();
                    return Ok(Outcome::Ended(end));
                }
            },
        }
    }
}

async fn answer(asked: &mut Option<JoinHandle<Answer>>) -> Answer {
    match asked {
        // A thread that was lost has asked nobody.
        Some(asked) => asked.await.unwrap_or(Answer::Follow),
        None => pending().await,
    }
}

/// False where Ctrl-C came before the builder had answered.
async fn cancelled(context: &Context, id: &str, interrupt: &mut Signal) -> Result<bool> {
    context.ui.say("cancelling the build; Ctrl-C leaves without waiting for its end");
    let words = ["cancel", id];
    tokio::select! {
        output = tell(context, &words, "cannot cancel the build") => output.map(|_| true).map_err(|error| {
            error.hint(format!("it goes on: `trampoline-cli cancel {id}` when the builder can be reached"))
        }),
        _ = interrupt.recv() => Ok(false),
    }
}

/// The log as a person sees it.
struct Screen<'a> {
    context: &'a Context,
    log: Log<'a>,
    lines: Lines,
    renderer: Renderer,
    step: Option<Step>,
}

impl<'a> Screen<'a> {
    fn new(context: &'a Context, log: Log<'a>) -> Self {
        let renderer = Renderer::new(context.ui.verbose, context.ui.tty);
        let step = Some(context.ui.step("building"));
        Self { context, log, lines: Lines::default(), renderer, step }
    }

    fn show(&mut self, bytes: &[u8]) {
        let step = self.step.get_or_insert_with(|| self.context.ui.step("building"));
        self.lines.take(bytes, |line| self.renderer.line(line, step));
    }

    /// The line that moves goes, until the log goes on.
    fn hide(&mut self) {
        if let Some(step) = self.step.take() {
            step.clear();
        }
    }

    /// A last line without its end is one.
    fn end(&mut self) {
        let step = self.step.get_or_insert_with(|| self.context.ui.step("building"));
        self.lines.rest(|line| self.renderer.line(line, step));
        self.hide();
    }

    fn leave(mut self, id: &str, code: u8) -> Outcome {
        self.hide();
        self.context.ui.say(format!(
            "left build {id}: `trampoline-cli attach {id}` follows it, `trampoline-cli cancel {id}` ends it"
        ));
        Outcome::Left(code)
    }
}

/// Says how a build ended, and what it made; the exit code to end with.
pub(crate) fn report(context: &Context, id: &str, generation: Option<u64>, outcome: &Outcome) -> Result<u8> {
    let ui = context.ui;
    let end = match outcome {
        Outcome::Ended(end) => end,
        Outcome::Left(code) => {
            if ui.json {
                ui.object(&serde_json::json!({ "job": id, "state": "left", "code": code }))?;
            }
            return Ok(*code);
        }
    };
    let code = end.exit_code();
    if ui.json {
        let mut object = serde_json::json!({
            "job": id, "state": end.state(), "code": code, "cancelled": end.cancelled, "note": end.note,
            "outputs": end.outputs,
        });
        if let Some(generation) = generation {
            object["generation"] = generation.into();
        }
        ui.object(&object)?;
    } else {
        end.outputs.iter().try_for_each(|path| ui.data(path))?;
    }
    match (&end.note, end.interrupted) {
        (Some(note), true) => {
            ui.warn(format!("build {id} was interrupted: {note}"));
            ui.say("the same build again builds what is missing");
        }
        (Some(note), false) => ui.warn(note),
        (None, _) => {}
    }
    if end.cancelled {
        ui.say("the build was cancelled");
    } else if end.code != 0 && !end.interrupted {
        ui.warn(format!("the build failed with Nix's exit code {}", end.code));
    }
    Ok(code)
}
