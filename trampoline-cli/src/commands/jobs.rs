//! `jobs`: the builds that the builder knows of.

use clap::Args;
use contract::job::{JobInfo, JobState};

use crate::context::Context;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::jobs;
use crate::nixlog::clean;
use crate::ui::{ago, now, span, table};

/// List the builds of the builder
///
/// Newest first, those that have ended too, as long as they are kept (`keep-jobs` and `keep-jobs-for` under [user]). Never
/// starts the builder, and does not count as activity.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli jobs
  trampoline-cli jobs --json | jq -r '.[] | select(.state == \"failed\") | .id'

States: queued, running, finished, failed, cancelled, and interrupted if the builder ended before the build did.")]
pub(crate) struct Jobs {}

/// What `--json` prints of each.
#[derive(serde::Serialize)]
struct Row<'a> {
    state: JobState,
    #[serde(flatten)]
    info: &'a JobInfo,
}

impl Jobs {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let ui = context.ui;
        let jobs = jobs::list(&context).await?;
        if ui.json {
            let rows: Vec<_> = jobs.iter().map(|info| Row { state: info.state(), info }).collect();
            ui.object(&rows)?;
            return Ok(0);
        }
        if jobs.is_empty() {
            ui.say("nothing has been built yet; `trampoline-cli build` builds what was pushed");
            return Ok(0);
        }
        let now = now();
        let mut rows = vec![["BUILD", "STATE", "BEGAN", "TOOK", "BY", "WHAT"].map(str::to_owned)];
        rows.extend(jobs.iter().map(|info| row(info, now)));
        for line in table(&rows, |_| true) {
            ui.data(line)?;
        }
        Ok(0)
    }
}

fn row(info: &JobInfo, now: u64) -> [String; 6] {
    let until = info.ended.unwrap_or(now);
    let state = match (&info.end, info.state()) {
        (Some(end), JobState::Failed) => format!("failed ({})", end.code),
        (_, state) => state.name().to_owned(),
    };
    // Somebody else may have written these.
    let (from, what) = (clean(&info.request.from, false), clean(&info.request.what(), false));
    [info.id.clone(), state, ago(info.started, now), span(until.saturating_sub(info.started)), from, what]
}

/// The newest that has not ended.
pub(crate) fn newest_running(context: &Context, jobs: &[JobInfo]) -> Result<String> {
    if let Some(info) = jobs.iter().find(|info| info.end.is_none()) {
        return Ok(info.id.clone());
    }
    let error = CliError::usage(format!("no build runs in builder {}", context.name));
    Err(match jobs.first() {
        Some(info) => error.hint(format!(
            "the newest, {} ({}), is {}: `trampoline-cli attach {}` shows its log and ends as it did",
            info.id,
            clean(&info.request.what(), false),
            info.state().name(),
            info.id
        )),
        None => error.hint("`trampoline-cli build` builds what was pushed"),
    })
}

#[cfg(test)]
mod tests {
    use contract::job::{BuildRequest, JobEnd};

    use super::*;

    fn info(id: &str, end: Option<JobEnd>) -> JobInfo {
        let request = BuildRequest {
            project: "hello".into(),
            generation: None,
            file: Some("a.nix".into()),
            attrs: vec!["x".into()],
            nix_args: vec![],
            from: "me@\x1b[2Jhere".into(),
        };
        let ended = end.as_ref().map(|_| 100);
        JobInfo { id: id.into(), request, generation: 1, started: 90, ended, log: 0, queued: false, end }
    }

    #[test]
    fn rows_line_up_and_say_how_it_is() {
        let end = |code, cancelled, interrupted| {
            Some(JobEnd { code, cancelled, interrupted, note: None, outputs: vec![] })
        };
        let all = [
            info("1000", None),
            info("9", end(0, false, false)),
            info("8", end(100, false, false)),
            info("7", end(1, true, false)),
            info("6", end(137, false, true)),
        ];
        let rows: Vec<_> = all.iter().map(|info| row(info, 150)).collect();
        let lines: Vec<_> = table(&rows, |_| true);
        assert_eq!(lines[0], "1000  running       1 min ago  1 min  me@here  hello -f a.nix x");
        assert_eq!(lines[1], "9     finished      1 min ago  10 s   me@here  hello -f a.nix x");
        assert!(lines[2].contains("failed (100)  1 min"), "{lines:?}");
        assert!(lines[3].contains("cancelled") && lines[4].contains("interrupted"), "{lines:?}");
    }
}
