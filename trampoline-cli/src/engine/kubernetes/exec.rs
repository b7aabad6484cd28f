//! Commands in a running container, over the API server.
//!
//! How a command ended comes last, behind all of its output: what ends without that was cut off.

use std::time::Duration;

use bytes::Bytes;
use contract::exit::Exit;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::AttachParams;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::cause::Cause;
use super::client::Cluster;
use super::liveness::Lost;
use super::start::Incoming;
use super::stream::{self, Feed, Input};
use super::target::Target;
use crate::engine::{Output, Stream};
use crate::error::{CliError, Result};
use crate::ui::Ui;

/// Channels of a command.
pub(super) const STDOUT: u8 = 1;
/// See [`STDOUT`].
pub(super) const STDERR: u8 = 2;
/// How it ended.
pub(super) const STATUS: u8 = 3;
/// Of its terminal.
pub(super) const RESIZE: u8 = 4;

/// A command that is read to its end answers a question; those that take long are followed.
const DEADLINE: Duration = Duration::from_secs(300);
/// Most that is kept of what a command says to people, bytes.
const WORDS: usize = 256 << 10;
/// What a shell says of a program that is not there, and of one that may not be run.
const NOT_FOUND: i32 = 127;
const NOT_RUNNABLE: i32 = 126;
/// As podman: the command was not started.
const NOT_STARTED: i32 = 125;

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It ran.
    Code(i32),
    /// It did not; in the words of whoever refused it.
    Refused(String),
}

impl Ended {
    /// From channel 3.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let Ok(status) = serde_json::from_slice::<Status>(bytes) else {
            return Self::Refused(String::from_utf8_lossy(bytes).into_owned());
        };
        if status.status.as_deref() == Some("Success") {
            return Self::Code(0);
        }
        let causes = status.details.and_then(|details| details.causes).unwrap_or_default();
        let code = causes
            .into_iter()
            .find(|cause| cause.reason.as_deref() == Some("ExitCode"))
            .and_then(|cause| cause.message?.parse().ok());
        code.map_or_else(|| Self::Refused(status.message.unwrap_or_default()), Self::Code)
    }
}

impl Target {
    /// A command that did not start: its code, as podman would give it, and what it would say.
    fn refused(&self, words: &str) -> Result<(i32, String)> {
        let program = |what: &str| format!("{what}: {}", words.rsplit("exec: ").next().unwrap_or(words));
        match Cause::of(words) {
            Cause::NotFound => Ok((NOT_FOUND, program("no such program"))),
            Cause::NotRunnable => Ok((NOT_RUNNABLE, program("cannot be run"))),
            Cause::NotRunning => Err(self.not_running()),
            Cause::NodeAway => Err(self.node_away(words)),
            Cause::Unknown => Err(CliError::engine(format!(
                "the cluster did not run a command in the {} container of builder {}: {words}",
                self.container, self.builder
            ))),
        }
    }

    fn settle(&self, ended: Ended, mut words: Vec<u8>) -> Result<(i32, Vec<u8>)> {
        match ended {
            Ended::Code(code) => Ok((code, words)),
            Ended::Refused(why) => {
                let (code, said) = self.refused(&why)?;
                words.extend_from_slice(said.as_bytes());
                Ok((code, words))
            }
        }
    }

    /// Where nothing was kept: says why a command did not start, and gives its code.
    pub(super) fn code(&self, ui: Ui, ended: Ended) -> Result<i32> {
        let (code, words) = self.settle(ended, Vec::new())?;
        if !words.is_empty() {
            ui.warn(String::from_utf8_lossy(&words));
        }
        Ok(code)
    }
}

/// With its streams in our hands.
pub(super) async fn stream(cluster: &Cluster, target: Target, argv: &[&str]) -> Result<Stream> {
    let params =
        AttachParams { stdin: true, stdout: true, stderr: true, tty: false, ..AttachParams::default() };
    let (incoming, input) = target.start(cluster, argv, params).await?;
    let (feed, stdout) = stream::Output::new();
    let end = tokio::spawn(async move {
        let (ended, words) = carry(incoming, feed).await.map_err(|lost| target.lost(&lost))?;
        target.settle(ended, words)
    });
    Ok(Stream { stdin: Box::new(Input::new(input)), stdout: Box::new(stdout), end })
}

/// To its end.
pub(super) async fn exec(cluster: &Cluster, target: &Target, argv: &[&str], input: &[u8]) -> Result<Output> {
    match tokio::time::timeout(DEADLINE, whole(cluster, target, argv, input)).await {
        Ok(Err(error)) if error.exit == Exit::Stopping => {
            let stderr = error.message.into_bytes();
            Ok(Output { code: NOT_STARTED, stdout: Vec::new(), stderr })
        }
        Ok(output) => output,
        Err(_) => Err(CliError::new(
            Exit::Deadline,
            format!(
                "`{}` did not end within {} s in builder {}",
                argv.join(" "),
                DEADLINE.as_secs(),
                target.builder
            ),
        )
        .hint("`trampoline-cli logs user` may show what it waits for")),
    }
}

async fn whole(cluster: &Cluster, target: &Target, argv: &[&str], input: &[u8]) -> Result<Output> {
    let params = AttachParams {
        stdin: !input.is_empty(),
        stdout: true,
        stderr: true,
        tty: false,
        ..AttachParams::default()
    };
    let (incoming, frames) = target.start(cluster, argv, params).await?;
    let (feed, mut stdout) = stream::Output::new();
    let write = async {
        let mut stdin = Input::new(frames);
        // A command that does not want its input says so by its exit code.
        let _ = stdin.write_all(input).await;
    };
    let mut bytes = Vec::new();
    // What breaks the reading breaks the connection, which says why.
    let read = async { stdout.read_to_end(&mut bytes).await.is_ok() };
    let ((), _, end) = tokio::join!(write, read, carry(incoming, feed));
    let (ended, words) = end.map_err(|lost| target.lost(&lost))?;
    let (code, stderr) = target.settle(ended, words)?;
    Ok(Output { code, stdout: bytes, stderr })
}

/// Passes stdout on and keeps stderr, until the command has ended.
async fn carry(mut incoming: Incoming, feed: Feed) -> std::result::Result<(Ended, Vec<u8>), Lost> {
    let mut words = Vec::new();
    loop {
        let lost = match incoming.next().await {
            // A reader that has gone wants the end only.
            Ok(Some((STDOUT, bytes))) => {
                let _ = feed.send(Ok(bytes)).await;
                continue;
            }
            Ok(Some((STDERR, bytes))) => {
                words.extend_from_slice(&bytes);
                if words.len() > 2 * WORDS {
                    words.drain(..words.len() - WORDS);
                }
                continue;
            }
            Ok(Some((STATUS, bytes))) => {
                let _ = feed.send(Ok(Bytes::new())).await;
                return Ok((Ended::parse(&bytes), words));
            }
            Ok(Some(_)) => continue,
            Ok(None) => Lost("it was closed before the command had ended".to_owned()),
            Err(lost) => lost,
        };
        let _ = feed.send(Err(lost.clone().into())).await;
        return Err(lost);
    }
}

#[cfg(test)]
mod tests {
    use contract::places::Container;

    use super::*;

    #[test]
    fn how_a_command_ended() {
        let nonzero = br#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 42","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#;
        let refused = br#"{"metadata":{},"status":"Failure","message":"Internal error occurred: container not found (\"user\")","reason":"InternalError","details":{"causes":[{"message":"container not found (\"user\")"}]},"code":500}"#;
        assert_eq!(Ended::parse(br#"{"metadata":{},"status":"Success"}"#), Ended::Code(0));
        assert_eq!(Ended::parse(nonzero), Ended::Code(42));
        let Ended::Refused(words) = Ended::parse(refused) else { panic!("it did not run") };
        assert_eq!(Cause::of(&words), Cause::NotRunning);
        assert_eq!(Ended::parse(b"no JSON"), Ended::Refused("no JSON".to_owned()));
    }

    #[test]
    fn a_program_that_is_not_there_is_told_from_a_container_that_is_not() {
        let target = Target::new("a", Container::User);
        let words = r#"OCI runtime exec failed: exec failed: unable to start container process: exec: "nosuch": executable file not found in $PATH"#;
        let (code, said) = target.refused(words).expect("it is the command's own fault");
        assert_eq!(
            (code, said.as_str()),
            (127, r#"no such program: "nosuch": executable file not found in $PATH"#)
        );
        assert_eq!(target.refused(r#"exec: "/etc": is a directory"#).expect("the same").0, 126);
        assert_eq!(target.refused("container not found (\"user\")").unwrap_err().exit, Exit::Stopping);
        let ended = "OCI runtime exec failed: exec failed: unable to create new parent process: namespace path: \
                     lstat /proc/2170/ns/user: no such file or directory";
        assert_eq!(target.refused(ended).unwrap_err().exit, Exit::Stopping);
        let between = "error executing command in container: failed to exec in container: failed to start exec \"9985\": \
                       container 1a4d init process is not running: failed precondition";
        assert_eq!(target.refused(between).unwrap_err().exit, Exit::Stopping);
        let away =
            target.refused("error dialing backend: dial tcp 10.0.0.1:10250: connect: connection refused");
        assert!(away.unwrap_err().message.contains("does not reach the node of builder a"));
    }
}
