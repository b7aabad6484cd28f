//! `hold`: an idle builder stays.

use std::time::Duration;

use clap::Args;
use contract::config::{DURATION_FORM, format_duration, parse_duration};
use contract::handshake::Hold as Held;
use contract::hold::{LONGEST, REASON_MAX, Wish};
use contract::places::USER_INIT;

use crate::context::Context;
use crate::engine::{PodPhase, Published};
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::settings::owner;
use crate::ui::{ago, now};
use crate::{remote, wake};

/// Keep the builder from stopping by itself for a while
///
/// Starts it if need be. Takes the place of an earlier hold, outlives the pod, and ends by itself or by `release`; `down` stops
/// the builder all the same. Without a time it shows what is in force, and starts nothing.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli hold 2h
  trampoline-cli hold 1d --reason \"a demo at ten\"
  trampoline-cli hold                      who holds it, until when and why")]
pub(crate) struct Hold {
    /// For so long from now, such as "30m", "2h" or "1d"; at most 30d
    #[arg(value_name = "TIME", value_parser = time)]
    time: Option<Duration>,
    /// Why; `status` shows it to everybody
    #[arg(long, value_name = "TEXT", value_parser = reason, requires = "time")]
    reason: Option<String>,
}

fn time(text: &str) -> std::result::Result<Duration, String> {
    let in_range = |time: &Duration| (Duration::from_secs(1)..=LONGEST).contains(time);
    let form = || format!("it is {DURATION_FORM} from 1s to {}", format_duration(LONGEST));
    parse_duration(text).filter(in_range).ok_or_else(form)
}

fn reason(text: &str) -> std::result::Result<String, String> {
    if text.len() > REASON_MAX || text.contains(char::is_control) {
        return Err(format!("it is one line of at most {REASON_MAX} bytes"));
    }
    Ok(text.to_owned())
}

impl Hold {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let Some(time) = self.time else { return show(&context).await };
        wake::running(&context).await?;
        let reason = self.reason.clone().unwrap_or_default();
        let wish = Wish { seconds: time.as_secs(), reason, by: owner() };
        let wish = serde_json::to_vec(&wish).map_err(|error| CliError::usage(error.to_string()))?;
        let output = wake::exec(&context, &[USER_INIT, "hold", "set"], &wish).await?;
        if output.code != 0 {
            return Err(remote::failed("cannot hold the builder", &output));
        }
        context.ui.say(format!("builder {} stays up for {}", context.name, format_duration(time)));
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "name": context.name, "hold": wake::status(&context).await?.and_then(in_force) }))?;
        }
        Ok(0)
    }
}

/// What the pod says of it.
fn in_force(status: contract::handshake::BuilderStatus) -> Option<Held> {
    status.user.and_then(|user| user.hold).filter(|hold| hold.until > now())
}

async fn show(context: &Context) -> Result<u8> {
    let observed = context.engine.look(&context.name).await?;
    if !observed.exists() {
        return Err(wake::absent(context));
    }
    let runs = observed.phase() == PodPhase::Running;
    let published = match observed.published {
        Published::Read(status) => status.map(|status| *status),
        Published::InPod | Published::Silent => None,
    };
    // A cluster is told some time after the pod. Who may not ask the pod goes by that.
    let status = match runs {
        true => wake::status(context).await.or_else(|error| published.map(Some).ok_or(error))?,
        false => None,
    };
    let running = status.is_some();
    let held = status.and_then(in_force);
    if context.ui.json {
        context.ui.object(&serde_json::json!({ "name": context.name, "hold": held }))?;
        return Ok(0);
    }
    match held {
        Some(hold) => context.ui.data(described(&hold, now()))?,
        None if running => context.ui.say(format!("nobody holds builder {}", context.name)),
        None => context.ui.say(format!("builder {} does not run", context.name)),
    }
    Ok(0)
}

/// On one line.
pub(super) fn described(hold: &Held, now: u64) -> String {
    let reason = if hold.reason.is_empty() { String::new() } else { format!(": {}", hold.reason) };
    format!("ends {} ({}{reason})", ago(hold.until, now), hold.by)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_reasons() {
        assert_eq!(time("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "2", "0s", "31d", "never", "two hours"] {
            assert!(time(wrong).unwrap_err().contains("from 1s to 30d"), "{wrong}");
        }
        assert!(reason("a\nb").is_err() && reason(&"x".repeat(201)).is_err() && reason("").is_ok());
        let hold = Held { until: 7300, ends: 0, reason: "a demo".into(), by: "me@here".into() };
        assert_eq!(described(&hold, 100), "ends in 2 h 0 min (me@here: a demo)");
        assert_eq!(described(&Held { reason: String::new(), ..hold }, 100), "ends in 2 h 0 min (me@here)");
    }
}
