//! `release`: a held builder may stop again.

use clap::Args;
use contract::exit::Exit;
use contract::handshake::Hold;
use contract::places::{Container, HOME, JOBS, USER_INIT};

use super::hold::described;
use crate::context::Context;
use crate::engine::{PodPhase, Volume};
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::ui::now;
use crate::{remote, wake};

/// End a hold: the builder may stop again when it is idle
///
/// Whoever has set it. Starts nothing: a hold of a builder that does not run counts again once it does.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli release")]
pub(crate) struct Release {}

impl Release {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let observed = context.engine.observe(&context.name).await?;
        if !observed.exists() {
            return Err(wake::absent(&context));
        }
        if observed.phase() == PodPhase::Running {
            let argv = [USER_INIT, "hold", "release"];
            let output = context.engine.exec(&context.name, Container::User, &argv, &[]).await?;
            if output.code == 0 {
                context.ui.say(format!("builder {} stops when it is idle", context.name));
                return released(&context);
            }
            // It may have ended meanwhile.
            if context.engine.observe(&context.name).await?.phase() == PodPhase::Running {
                return Err(remote::failed("cannot release the builder", &output));
            }
        }
        let image = context.image_of(&observed);
        let kept = match context.engine.kept(&context.name, image, Volume::Home, &kept_at()).await {
            Ok(kept) => read(kept.as_deref(), now()),
            Err(error) => {
                let what =
                    format!("builder {} does not run, and whether it is held is not known", context.name);
                return Err(CliError::new(Exit::Stopping, format!("{what}: {}", error.message)).hint(HOW));
            }
        };
        if let Some(hold) = kept {
            let what = format!("builder {} does not run, and its hold, which stays, ", context.name);
            return Err(CliError::new(Exit::Stopping, what + &described(&hold, now())).hint(HOW));
        }
        context.ui.say(format!("builder {} does not run, and nobody holds it", context.name));
        released(&context)
    }
}

/// What to do about a hold that nobody can take away.
const HOW: &str =
    "a hold counts again once the builder runs: `trampoline-cli up`, then `trampoline-cli release`, ends it";

fn released(context: &Context) -> Result<u8> {
    if context.ui.json {
        context.ui.object(&serde_json::json!({ "name": context.name, "hold": null }))?;
    }
    Ok(0)
}

/// On the home volume.
fn kept_at() -> String {
    let jobs = JOBS.strip_prefix(HOME).unwrap_or(JOBS).trim_start_matches('/');
    let folder = jobs.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{}", contract::hold::FILE)
}

/// As `user-init` keeps it, if it is not over. What cannot be read is no hold there either.
fn read(text: Option<&[u8]>, now: u64) -> Option<Hold> {
    serde_json::from_slice::<Hold>(text?).ok().filter(|hold| hold.until > now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_a_hold() {
        assert_eq!(kept_at(), ".local/state/trampoline/hold.json");
        let text = br#"{"life":"b:1","until":100,"ends":5,"reason":"a demo","by":"me@here"}"#;
        assert!(read(Some(text), 99).is_some_and(|hold| hold.by == "me@here"));
        assert_eq!(read(Some(text), 100), None, "it is over");
        assert_eq!(read(Some(b"nonsense"), 1), None);
        assert_eq!(read(None, 1), None);
    }
}
