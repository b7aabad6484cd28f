//! From words to subcommands. Data goes to standard output, everything for people to standard error.

use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use agent::args::Args;
use agent::config::Watched;
use agent::status::chain;
use contract::config::Config;
use contract::exit::Exit;
use contract::handshake::SessionKind;
use contract::hold::Wish;
use contract::job::{BuildRequest, Generation, JobStarted};
use serde::Serialize;

use crate::control::{Client, Reply, Request};
use crate::error::{Error, Result, io_error};
use crate::job::{self, Jobs};
use crate::project::{self, Project, Source};
use crate::session::{self, Asked};
use crate::{Place, serve, ssh, status, unread};

/// Most that is read from standard input as a whole: keys, a build request.
const INPUT_MAX: u64 = 1 << 20;

/// See [`crate::run`].
pub(crate) fn run(place: &Place, args: Args) -> u8 {
    let mut place = place.clone();
    if let Some(config) = args.config {
        place.paths.config = config;
    }
    let command = args.command.as_deref().unwrap_or("serve");
    let done = if args.check_config {
        Watched::load(&place.paths.config).map(|_| 0).map_err(Error::from)
    } else if command == "serve" {
        return serve::run(&place).code();
    } else {
        dispatch(&place, command, &args.rest)
    };
    let code = done.unwrap_or_else(|error| {
        // Nobody may be there to read it.
        let _ = writeln!(io::stderr(), "user-init: {}", chain(&error));
        error.exit().code()
    });
    if has_input(command, &args.rest) {
        unread::leave();
    }
    code
}

/// Whether a client may send more than this command has read. sshd copes with that itself, and a terminal is no pipe.
fn has_input(command: &str, rest: &[String]) -> bool {
    let own = rest.split(|word| word == "--").next().unwrap_or_default();
    match command {
        // By a pipe that was handed over nobody sends anything else.
        "receive" => rest.is_empty(),
        "session" => !own.windows(2).any(|words| words == ["--kind", "ssh"]) && !io::stdin().is_terminal(),
        _ => false,
    }
}

/// What is in force; a file that is refused is `serve`'s to complain about and no reason to lock people out.
pub(crate) fn config(place: &Place) -> Config {
    Watched::load(&place.paths.config).map(|w| w.config().clone()).unwrap_or_default()
}

fn dispatch(place: &Place, command: &str, rest: &[String]) -> Result<u8> {
    let words: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (command, words.as_slice()) {
        ("session", _) => return session::run(place, asked(rest)?),
        ("signal", [id, name]) => session::signal(place, id, name)?,
        ("receive", []) => receive(place, false)?,
        ("receive", ["--fd", "3"]) => receive(place, true)?,
        ("job", ["start"]) => drop(start(place, &line()?)?),
        // One call instead of two: each costs as much as a small build.
        ("job", ["start", "--follow"]) => follow(place, &start(place, &line()?)?.id, 0, true)?,
        ("job", ["list"]) => print(&Jobs::of(&place.paths).list()?)?,
        ("job", ["cancel", id]) => cancel(place, id)?,
        ("job", ["cancel", id, "--wait"]) => {
            cancel(place, id)?;
            // Its end alone.
            follow(place, id, u64::MAX, true)?;
        }
        ("job", ["follow", id]) => follow(place, id, 0, true)?,
        ("job", ["follow", id, "--now"]) => follow(place, id, 0, false)?,
        ("job", ["follow", id, "--from", from]) => follow(place, id, offset(from)?, true)?,
        ("job", ["follow", id, "--now", "--from", from]) => follow(place, id, offset(from)?, false)?,
        ("hold", ["set"]) => hold(place, &input()?)?,
        ("hold", ["release"]) => drop(Client::ask(&place.paths.control_socket(), &Request::Release, say)?),
        ("store-path", ["--project", project, path]) => store_path(place, project, None, path)?,
        ("store-path", ["--project", project, "--generation", generation, path]) => {
            let wrong = |_| Error::Usage(format!("--generation needs a number, not {generation:?}"));
            store_path(place, project, Some(generation.parse().map_err(wrong)?), path)?;
        }
        ("projects", []) => print(&projects(place)?)?,
        ("keys", ["add"]) => {
            let new = ssh::add(&place.paths, &input()?)?;
            say(&format!("{new} new"));
        }
        ("keys", ["ls"]) => {
            let mut text = ssh::listed(&place.paths)?.join("\n");
            if !text.is_empty() {
                text.push('\n');
            }
            write(text.as_bytes())?;
        }
        ("host-key", []) => write(ssh::host_key(&place.paths)?.as_bytes())?,
        ("status", []) => {
            let life = agent::life::current(&place.paths).map_err(io_error("read", &place.paths.proc))?;
            print(&status::assemble(&place.paths, &life, &config(place)))?;
        }
        ("await", []) => status::until_served(place, None, &mut io::stdout().lock())?,
        ("await", ["--keys"]) => status::until_served(place, Some(&lines()?), &mut io::stdout().lock())?,
        ("await", ["--config", digest]) => {
            status::until_configured(place, digest, &mut io::stdout().lock())?;
        }
        _ => {
            return Err(Error::Usage(format!(
                "unknown: {command} {}\nhint: user-init --help",
                rest.join(" ")
            )));
        }
    }
    Ok(Exit::Ok.code())
}

fn asked(rest: &[String]) -> Result<Asked> {
    let mut asked =
        Asked { kind: SessionKind::Exec, project: None, generation: None, command: Vec::new(), begun: None };
    let mut words = rest.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Error::Usage(format!("{word} needs a value")));
        match word.as_str() {
            "--kind" => {
                asked.kind = match value()?.as_str() {
                    "ssh" => SessionKind::Ssh,
                    "exec" => SessionKind::Exec,
                    "transfer" => SessionKind::Transfer,
                    other => {
                        return Err(Error::Usage(format!("--kind is ssh, exec or transfer, not {other:?}")));
                    }
                }
            }
            // For `signal`, and for whoever refuses us: both find it among our arguments.
            "--id" => drop(value()?),
            "--begun-word" => asked.begun = Some(session::Begun::Word(value()?.clone())),
            "--begun-fd" => {
                let text = value()?;
                let wrong = |e: io::Error| Error::Usage(format!("--begun-fd {text}: {e}"));
                let descriptor = text
                    .parse()
                    .map_err(|_| Error::Usage(format!("--begun-fd needs a number, not {text:?}")))?;
                asked.begun = Some(session::Begun::handed_over(descriptor).map_err(wrong)?);
            }
            "--project" => asked.project = Some(value()?.clone()),
            "--generation" => {
                let text = value()?;
                let wrong = |_| Error::Usage(format!("--generation needs a number, not {text:?}"));
                asked.generation = Some(text.parse().map_err(wrong)?);
            }
            "--" => asked.command = words.by_ref().cloned().collect(),
            other => {
                return Err(Error::Usage(format!("unknown: session {other}; a command stands behind `--`")));
            }
        }
    }
    Ok(asked)
}

fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

fn write(bytes: &[u8]) -> Result<()> {
    write_to(&mut io::stdout().lock(), bytes)
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    let gone = |e: io::Error| Error::Transfer(format!("standard output: {e}"));
    out.write_all(bytes).map_err(gone)?;
    out.flush().map_err(gone)
}

fn print<T: Serialize>(value: &T) -> Result<()> {
    print_to(&mut io::stdout().lock(), value)
}

/// As one line, at once.
pub(crate) fn print_to<T: Serialize>(out: &mut impl Write, value: &T) -> Result<()> {
    let mut bytes = serde_json::to_vec(value).map_err(|e| Error::Transfer(e.to_string()))?;
    bytes.push(b'\n');
    write_to(out, &bytes)
}

fn input() -> Result<String> {
    let mut text = String::new();
    let read = io::stdin().lock().take(INPUT_MAX).read_to_string(&mut text);
    read.map_err(|e| Error::Usage(format!("standard input: {e}")))?;
    Ok(text)
}

/// The first line: for who keeps the stream open, because to close one direction may close both.
fn line() -> Result<String> {
    let mut text = String::new();
    let read = io::stdin().lock().take(INPUT_MAX).read_line(&mut text);
    read.map_err(|e| Error::Usage(format!("standard input: {e}")))?;
    Ok(text)
}

/// All lines before an empty one.
fn lines() -> Result<String> {
    let mut text = String::new();
    loop {
        let line = line()?;
        if line.trim().is_empty() || text.len() > INPUT_MAX as usize {
            return Ok(text);
        }
        text.push_str(&line);
    }
}

/// What was handed over as descriptor 3: a pipe from the client, so that the engine need not carry a tree piece by piece.
const HANDED: &str = "/proc/self/fd/3";

/// With `handed`, all comes by the pipe instead of standard input.
fn receive(place: &Place, handed: bool) -> Result<()> {
    let request = Request::Session { kind: SessionKind::Transfer, command: "push".into() };
    let socket = place.paths.control_socket();
    // Held until the tree is there: the push is a session.
    let (_session, _) = Client::ask(&socket, &request, say)?;
    let boot = serve::boot_id(&place.paths)?;
    let source = if handed {
        Source::open(Path::new(HANDED)).map_err(io_error("open", Path::new(HANDED)))?
    } else {
        Source::new(io::stdin()).map_err(|e| Error::Transfer(e.to_string()))?
    };
    let mut input = BufReader::with_capacity(256 << 10, source);
    let project =
        project::receive(&place.paths.projects(), &boot, &mut input, &mut io::stdout().lock(), say)?;
    // Off the client's path: deleting is slow on some file systems.
    let prune = Request::Prune { project: project.name().to_owned() };
    if let Err(error) = Client::ask(&socket, &prune, |_| {}) {
        tracing::debug!(error = %chain(&error), "old trees stay until the next push");
    }
    Ok(())
}

fn start(place: &Place, text: &str) -> Result<JobStarted> {
    let wrong = |e| Error::Usage(format!("the build request is wrong: {e}"));
    let request: BuildRequest = serde_json::from_str(text).map_err(wrong)?;
    match Client::ask(&place.paths.control_socket(), &Request::Build(request), say)? {
        (_, Reply::Started(started)) => print(&started).map(|()| started),
        _ => Err(Error::Child("no job was started".into())),
    }
}

fn cancel(place: &Place, id: &str) -> Result<()> {
    Client::ask(&place.paths.control_socket(), &Request::Cancel { id: id.to_owned() }, say).map(drop)
}

fn hold(place: &Place, text: &str) -> Result<()> {
    let wrong = |e| Error::Usage(format!("the wish is not understood: {e}"));
    let Wish { seconds, reason, by } = serde_json::from_str(text).map_err(wrong)?;
    Client::ask(&place.paths.control_socket(), &Request::Hold { seconds, reason, by }, say).map(drop)
}

fn offset(text: &str) -> Result<u64> {
    text.parse().map_err(|_| Error::Usage(format!("--from needs a number of bytes, not {text:?}")))
}

fn follow(place: &Place, id: &str, from: u64, wait: bool) -> Result<()> {
    let stdout = io::stdout();
    job::follow(&Jobs::of(&place.paths), id, from, wait, &mut stdout.lock(), Some(stdout.as_fd()))
}

/// The store path to which something in a pushed tree leads.
fn store_path(place: &Place, project: &str, generation: Option<u64>, path: &str) -> Result<()> {
    let found = Project::new(&place.paths.projects(), project)?;
    let tree = found.tree(found.pick(generation)?);
    let given = tree.join(path);
    let leads = contract::roots::store_path(&given, |path| std::fs::read_link(path).ok());
    let leads = leads.ok_or_else(|| {
        let what =
            if given.symlink_metadata().is_ok() { "is no link into the store" } else { "is not there" };
        Error::NotFound(format!("{path} {what}, in what was pushed of {project}"))
    })?;
    write(format!("{leads}\n").as_bytes())
}

fn projects(place: &Place) -> Result<Vec<Generation>> {
    let mut all = Vec::new();
    for project in Project::all(&place.paths.projects())? {
        all.extend(project.generations()?);
    }
    Ok(all)
}
