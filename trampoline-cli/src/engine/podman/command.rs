//! Runs the podman program. Its version is not linked in: 4.3 and newer are spoken to the same way.

use std::ffi::OsStr;
use std::process::Stdio;
use std::time::Duration;

use contract::exit::Exit;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::engine::Output;
use crate::error::{CliError, Result, While};
use crate::ui::Ui;

/// The program, found on PATH.
pub(super) const PROGRAM: &str = "podman";

/// Whether containers run under another kernel than ours: in the machine of `podman machine` everywhere but on Linux, and on Linux where
/// podman is told so by either variable (podman-remote(1)).
pub(super) fn is_remote() -> bool {
    let told = |name| std::env::var_os(name).is_some();
    !cfg!(target_os = "linux") || told("CONTAINER_HOST") || told("CONTAINER_CONNECTION")
}

/// What podman writes to stderr though nothing is wrong.
const CHATTER: [&str; 2] = ["failed to connect to syslog", "conmon"];

/// As often in a row nobody removes something just then.
const LISTINGS: u32 = 9;

/// A command line of podman.
pub(super) fn command<S: AsRef<OsStr>>(ui: Ui, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(PROGRAM);
    command.args(args);
    if ui.verbose {
        let words: Vec<String> =
            command.as_std().get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        ui.detail(format!("+ {PROGRAM} {}", words.join(" ")));
    }
    command
}

/// podman could not be started.
pub(super) fn not_started(error: &std::io::Error) -> CliError {
    if error.kind() == std::io::ErrorKind::NotFound {
        return CliError::engine("podman is not installed, or not on PATH").hint(
            "a builder on this machine needs podman 4.3 or newer: `apt install podman`, `dnf install podman`, \
             or see https://podman.io/docs/installation",
        );
    }
    CliError::engine(format!("cannot run podman: {error}"))
}

/// Runs it to its end, whatever that is.
pub(super) async fn output(ui: Ui, args: &[&str], input: Option<&[u8]>) -> Result<Output> {
    let mut command = command(ui, args);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| not_started(&error))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        let input = input.to_vec();
        // Beside the reading: a child that answers before it has read everything must not block.
        tokio::spawn(async move {
            // A child that does not want its input says so by its exit code.
            let _ = stdin.write_all(&input).await;
        });
    }
    let ended = match deadline(args) {
        None => child.wait_with_output().await,
        Some(deadline) => match tokio::time::timeout(deadline, child.wait_with_output()).await {
            Ok(ended) => ended,
            Err(_) => return Err(silent(args, deadline)),
        },
    };
    let output = ended.during("cannot wait for podman")?;
    Ok(Output { code: code(output.status), stdout: output.stdout, stderr: output.stderr })
}

/// podman's commands wait for each other's locks; one that hangs must not hang us with it. None where the length of the
/// wait is the user's: builds that end, stores that are deleted.
fn deadline(args: &[&str]) -> Option<Duration> {
    let seconds = match args {
        ["wait", ..] | ["volume", "rm", ..] | ["pod", "rm", ..] => return None,
        ["kube", ..] | ["exec", ..] => 300,
        _ => 60,
    };
    Some(Duration::from_secs(seconds))
}

fn silent(args: &[&str], deadline: Duration) -> CliError {
    let shown = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    CliError::new(Exit::Deadline, format!("`podman {shown}` did not answer within {} s", deadline.as_secs()))
        .hint("another podman command may hang and hold its lock: `ps -ef | grep 'podman '` shows which")
}

/// Runs it and gives its stdout.
pub(super) async fn run(ui: Ui, args: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>> {
    let output = output(ui, args, input).await?;
    if output.code == 0 { Ok(output.stdout) } else { Err(failure(args, &output)) }
}

/// Runs a command that lists, and gives its stdout. podman reads the names of all and then looks at each, and fails as a whole if
/// somebody removes one in between: then it is asked again, which cannot go on for longer than there is something to remove.
pub(super) async fn listed(ui: Ui, args: &[&str]) -> Result<Vec<u8>> {
    for _ in 0..LISTINGS {
        let output = output(ui, args, None).await?;
        if output.code == 0 {
            return Ok(output.stdout);
        }
        let text = String::from_utf8_lossy(&output.stderr);
        if !["no such volume", "no such container", "no such pod"].iter().any(|gone| text.contains(gone)) {
            return Err(failure(args, &output));
        }
    }
    run(ui, args, None).await
}

/// What podman said when it failed.
pub(super) fn failure(args: &[&str], output: &Output) -> CliError {
    let text = String::from_utf8_lossy(&output.stderr);
    let mut words: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !CHATTER.iter().any(|chatter| line.contains(chatter)))
        .collect();
    // One line for each container says the same of each.
    words.dedup_by_key(|line| line.split(": ").last().unwrap_or_default());
    words.truncate(2);
    let shown = args.iter().take(2).copied().collect::<Vec<_>>().join(" ");
    // podman gives a volume its owner before anything of ours runs that could say so.
    let exit = if text.contains("read-only file system") { Exit::ReadOnly } else { Exit::Engine };
    let error = CliError::new(exit, format!("`podman {shown}` failed: {}", words.join("; ")));
    match advice(&text) {
        Some(hint) => error.hint(hint),
        None => error,
    }
}

/// Failures whose cause is known.
fn advice(stderr: &str) -> Option<&'static str> {
    const KNOWN: [(&str, &str); 10] = [
        (
            "RLIMIT",
            "this machine does not let podman raise its limits: put `default_ulimits = [\"nofile=20000:20000\", \
             \"nproc=10000:10000\"]` under [containers] of a containers.conf and point CONTAINERS_CONF at it",
        ),
        (
            "setting rlimit",
            "this machine does not let podman raise its limits: put `default_ulimits = [\"nofile=20000:20000\", \
             \"nproc=10000:10000\"]` under [containers] of a containers.conf and point CONTAINERS_CONF at it",
        ),
        (
            "exec: \"/opt/trampoline/bin/",
            "that is no image of a builder: `trampoline-cli image build` makes one (`image` under [builder] names it)",
        ),
        (
            crate::engine::PORT_TAKEN,
            "another program has the port: choose one with `ssh-port` under [builder]",
        ),
        (
            "finding pause binary",
            "podman makes the first process of each pod from catatonit: install the package catatonit",
        ),
        (
            "aardvark-dns failed to start",
            "another name server listens on port 53 of every address, also of podman's own network: `sudo ss -lunp 'sport = :53'` \
             names it; let it listen on fewer",
        ),
        (
            "no space left on device",
            "free some space where podman keeps its volumes: `podman system df` shows it",
        ),
        (
            "Cannot connect to Podman",
            "where podman has a machine of its own, `podman machine start` starts it; else CONTAINER_HOST or CONTAINER_CONNECTION names a \
             podman that does not answer",
        ),
        (
            "with the remote podman client",
            "this podman runs containers on another machine: name it by CONTAINER_HOST or CONTAINER_CONNECTION, so that it is known here too",
        ),
        (
            "newuidmap",
            "rootless podman needs subordinate ids: install uidmap, then \
             `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER` and `podman system migrate`",
        ),
    ];
    KNOWN.iter().find(|(text, _)| stderr.contains(text)).map(|(_, hint)| *hint)
}

/// As a shell would show it.
pub(super) fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status
        .code()
        .unwrap_or_else(|| status.signal().map_or(i32::from(Exit::Internal.code()), |signal| 128 + signal))
}
