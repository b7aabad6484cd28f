//! Commands in a running container, and its log.

use std::ffi::{OsStr, OsString};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;

use bytes::Bytes;
use command_fds::CommandFdExt;
use command_fds::FdMapping;
use contract::places::{USER_UID, VOLUME};
use tokio::io::AsyncReadExt;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::command;
use crate::engine::entry::Entrance;
use crate::engine::{Entry, Output, Stream, Volume, Word};
use crate::error::{CliError, Result, While};
use crate::ui::Ui;

/// Where a volume is while a file of it is read, and the most that is read of it, bytes.
const KEPT_AT: &str = "/trampoline/kept";
const KEPT: &str = "65536";
/// What podman says where it starts nothing, since the container does not run.
const NOT_RUNNING: &str = "container state improper";
/// Bytes of stderr that are taken at a time.
const PART: usize = 16 << 10;

/// With our own streams; where a word is to be heard, its stderr goes through our hands.
pub(super) async fn attach(
    ui: Ui,
    container: &str,
    argv: &[OsString],
    tty: bool,
    entry: Entry,
) -> Result<i32> {
    let (file, word) = match entry {
        Entry::File(file) => (Some(file), None),
        Entry::Word(word) => (None, Some(word)),
        Entry::Unasked => (None, None),
    };
    let mut command = interactive(ui, container, argv, tty, file)?;
    let mut heard = None;
    if let Some(word) = word {
        let (reader, writer) = io::pipe().during("cannot make a pipe")?;
        command.stderr(writer);
        heard = Some(tokio::task::spawn_blocking(move || hear(word, reader)));
    }
    // A key press reaches podman too, which passes it on; we stay to see how it ends.
    let mut interrupt = signal(SignalKind::interrupt()).during("cannot watch for signals")?;
    let mut quit = signal(SignalKind::quit()).during("cannot watch for signals")?;
    let mut child = command.spawn().map_err(|error| command::not_started(&error))?;
    // Only the other end may hold the file, or the pipe, now.
    drop(command);
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.during("cannot wait for podman")?,
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
    };
    if let Some(heard) = heard {
        // What came before the end is shown before anything is said about it.
        let _ = heard.await;
    }
    Ok(command::code(status))
}

/// Shows what comes, without the word. A podman on another machine may lose the end of it when that is busy, so silence proves nothing.
fn hear(word: Word, mut stderr: impl Read) {
    let mut entrance = Entrance::new(Entry::Word(word.clone()));
    let mut ours = io::stderr();
    let (mut part, mut begin) = (vec![0; PART], Vec::new());
    while let Ok(length @ 1..) = stderr.read(&mut part) {
        if begin.len() < PART {
            begin.extend_from_slice(&part[..length]);
        }
        // Nobody may be there to read it; the word is waited for all the same.
        let _ = ours.write_all(&entrance.pass(Bytes::copy_from_slice(&part[..length])));
    }
    let _ = ours.write_all(&entrance.rest());
    if String::from_utf8_lossy(&begin).contains(NOT_RUNNING) {
        word.not_let_in();
    }
}

/// To its end.
pub(super) async fn exec(ui: Ui, container: &str, argv: &[&str], input: &[u8]) -> Result<Output> {
    let mut args = vec!["exec"];
    if !input.is_empty() {
        args.push("--interactive");
    }
    args.push(container);
    args.extend(argv);
    command::output(ui, &args, (!input.is_empty()).then_some(input)).await
}

/// In a container of its own, which sees the store volume where the daemon container does and may change nothing.
pub(super) async fn on_store_volume(ui: Ui, builder: &str, image: &str, argv: &[&str]) -> Result<Output> {
    on_volume(ui, &format!("{}:{VOLUME}:ro", Volume::Store.of(builder)), 0, image, argv).await
}

/// A file on a volume, up to [`KEPT`].
pub(super) async fn kept(
    ui: Ui,
    builder: &str,
    image: &str,
    volume: Volume,
    path: &str,
) -> Result<Option<Vec<u8>>> {
    let mount = format!("{}:{KEPT_AT}:ro", volume.of(builder));
    // The home is its user's, who may have put a link in the place of anything.
    let user = if volume == Volume::Home { USER_UID } else { 0 };
    let path = format!("{KEPT_AT}/{path}");
    let output = on_volume(ui, &mount, user, image, &["head", "-c", KEPT, "--", &path]).await?;
    match output.code {
        0 => Ok(Some(output.stdout)),
        1 if String::from_utf8_lossy(&output.stderr).contains("No such file") => Ok(None),
        _ => Err(command::failure(&["run", image], &output)),
    }
}

async fn on_volume(ui: Ui, mount: &str, user: u32, image: &str, argv: &[&str]) -> Result<Output> {
    let user = user.to_string();
    // No registry is asked: the builder was made from an image that is here.
    let mut args =
        vec!["run", "--rm", "--pull", "never", "--network", "none", "--user", &user, "--volume", mount];
    args.extend(["--entrypoint", argv[0], image]);
    args.extend(&argv[1..]);
    command::output(ui, &args, None).await
}

/// With its streams in our hands.
pub(super) fn stream(ui: Ui, container: &str, argv: &[&str], file: Option<OwnedFd>) -> Result<Stream> {
    let mut command = interactive(ui, container, argv, false, file)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.stdin(Stdio::piped());
    let mut child = command.spawn().map_err(|error| command::not_started(&error))?;
    let lost = || CliError::engine("podman gave no pipes");
    let stdin = child.stdin.take().ok_or_else(lost)?;
    let stdout = child.stdout.take().ok_or_else(lost)?;
    let mut stderr = child.stderr.take().ok_or_else(lost)?;
    let end = tokio::spawn(async move {
        let mut words = Vec::new();
        stderr.read_to_end(&mut words).await.during("cannot read from podman")?;
        let status = child.wait().await.during("cannot wait for podman")?;
        Ok((command::code(status), words))
    });
    Ok(Stream { stdin: Box::new(stdin), stdout: Box::new(stdout), end })
}

/// `podman exec` that reads what we give it, and to which `file` is its descriptor 3.
fn interactive<S: AsRef<OsStr>>(
    ui: Ui,
    container: &str,
    argv: &[S],
    tty: bool,
    file: Option<OwnedFd>,
) -> Result<Command> {
    let mut args = ["exec", "--interactive"].map(OsString::from).to_vec();
    if tty {
        args.push("--tty".into());
        if let Some(term) = std::env::var_os("TERM") {
            let mut variable = OsString::from("TERM=");
            variable.push(term);
            args.extend(["--env".into(), variable]);
        }
    }
    if file.is_some() {
        args.extend(["--preserve-fds", "1"].map(OsString::from));
    }
    args.push(container.into());
    args.extend(argv.iter().map(OsString::from));
    let mut command = command::command(ui, args);
    if let Some(parent_fd) = file {
        // podman hands over its own descriptors from 3 on.
        command
            .fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }])
            .map_err(|error| CliError::engine(format!("cannot hand a file to podman: {error}")))?;
    }
    Ok(command)
}

/// As it comes.
pub(super) async fn logs(ui: Ui, container: &str, follow: bool, tail: Option<u32>) -> Result<i32> {
    let mut command = command::command(ui, ["logs"]);
    if follow {
        command.arg("--follow");
    }
    if let Some(tail) = tail {
        command.args(["--tail", &tail.to_string()]);
    }
    let status = command.arg(container).status().await.map_err(|error| command::not_started(&error))?;
    Ok(command::code(status))
}

/// Both streams together, as podman keeps them.
pub(super) async fn log_tail(ui: Ui, container: &str, lines: u32) -> Result<String> {
    let output = command::output(ui, &["logs", "--tail", &lines.to_string(), container], None).await?;
    let mut text = output.stdout;
    text.extend(output.stderr);
    Ok(String::from_utf8_lossy(&text).trim_end().to_owned())
}
