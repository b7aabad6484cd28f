//! `shell`: a prompt, or one command, in the pushed tree.

use std::ffi::OsString;
use std::io::IsTerminal;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Args;
use contract::places::{Container, USER_INIT};
use tokio::signal::unix::{SignalKind, signal};

use crate::context::Context;
use crate::error::{Result, While};
use crate::global::Global;
use crate::remote;
use crate::wake;

/// A signal that came before the engine's process ended was caught by then; the runtime tells of it in its next round.
const LATE: Duration = Duration::from_millis(5);

/// A prompt in the builder, or one command
///
/// Starts in the tree that was last pushed from this checkout, else in the home folder. Ends with the command's exit code.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli shell                     a prompt
  trampoline-cli shell -- nix-store --gc --print-roots
  echo 'ls -l' | trampoline-cli shell      commands from a pipe")]
pub(crate) struct Shell {
    /// What to run, as it is; no shell in between
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
    /// Start in this project's tree
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
}

impl Shell {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        wake::serving(&context).await?;
        let id = format!(
            "{}-{}",
            std::process::id(),
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()
        );
        let mut argv = Vec::new();
        if let Some(project) = &self.project {
            argv.extend(["--project", project].map(OsString::from));
        } else if let Some(tree) = remote::tree_here(&context).await? {
            argv.extend(["--project".to_owned(), tree.project].map(OsString::from));
            if let Some(generation) = tree.generation {
                argv.extend(["--generation".to_owned(), generation.to_string()].map(OsString::from));
            }
        }
        if !self.command.is_empty() {
            argv.push("--".into());
            argv.extend(self.command.iter().cloned());
        }
        let tty = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        let context = &context;
        let attached = wake::session(context, &id, tty, |entry| {
            let mut words: Vec<OsString> =
                [USER_INIT, "session", "--kind", "exec", "--id", &id].map(OsString::from).to_vec();
            words.extend(entry.options());
            words.extend(argv.iter().cloned());
            async move { context.engine.attach(&context.name, Container::User, &words, tty, entry).await }
        });
        // On a terminal the keys go there as they are.
        let code = if tty { attached.await? } else { passing_signals(context, &id, attached).await? };
        Ok(u8::try_from(code & 0xff).unwrap_or(u8::MAX))
    }
}

/// No engine passes a signal on to a command without a terminal; it would go on without us.
async fn passing_signals(
    context: &Context,
    id: &str,
    attached: impl Future<Output = Result<i32>>,
) -> Result<i32> {
    let watch = |kind| signal(kind).during("cannot watch for signals");
    let mut interrupt = watch(SignalKind::interrupt())?;
    let mut terminate = watch(SignalKind::terminate())?;
    let mut hang_up = watch(SignalKind::hangup())?;
    let mut told = async || {
        tokio::select! {
            biased;
            _ = interrupt.recv() => "int",
            _ = terminate.recv() => "term",
            _ = hang_up.recv() => "hup",
        }
    };
    let pass = async |name| {
        context.engine.exec(&context.name, Container::User, &[USER_INIT, "signal", id, name], &[]).await
    };
    tokio::pin!(attached);
    loop {
        tokio::select! {
            biased;
            name = told() => drop(pass(name).await?),
            code = &mut attached => {
                // The key that interrupts us ends the engine's own process as well, and we may hear of that first.
                if let Ok(name) = tokio::time::timeout(LATE, told()).await {
                    pass(name).await?;
                }
                return code;
            }
        }
    }
}
