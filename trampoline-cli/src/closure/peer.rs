//! A daemon's protocol over the pipes of a child: `nix-daemon --stdio` here, and the same behind ssh.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};

use contract::exit::Exit;
use worker_protocol::{Connection, Error};

use crate::error::{CliError, Result, While};

/// Both directions.
pub(super) struct Pipes {
    from: File,
    to: File,
}

impl Read for Pipes {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.from.read(buffer)
    }
}

impl Write for Pipes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end. Dropped, its child is ended.
pub(crate) struct Peer {
    /// For messages.
    who: String,
    child: Child,
    writer: File,
    connection: Connection<Pipes>,
}

impl Peer {
    /// Starts it and greets the daemon behind it. It says on our stderr what keeps it from that.
    pub(crate) fn start(mut command: Command, who: &str) -> Result<Self> {
        let program = command.get_program().to_string_lossy().into_owned();
        let cannot = |error: io::Error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let exit = if missing { Exit::Unsupported } else { Exit::ChildFailed };
            CliError::new(exit, format!("cannot run {program}: {error}"))
        };
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(cannot)?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(CliError::new(Exit::Internal, format!("{program} has no pipes")));
        };
        let to = File::from(OwnedFd::from(stdin));
        let pipes =
            Pipes { from: OwnedFd::from(stdout).into(), to: to.try_clone().during("cannot use a pipe")? };
        match Connection::open(pipes) {
            Ok(connection) => Ok(Self { who: who.to_owned(), child, writer: to, connection }),
            Err(error) => {
                end(&mut child);
                Err(CliError::new(
                    Exit::ChildFailed,
                    format!("cannot reach {who} by {program}: {}", why(&error)),
                ))
            }
        }
    }

    /// Another handle of what goes to the daemon.
    pub(super) fn writer(&self) -> Result<File> {
        self.writer.try_clone().during("cannot use a pipe")
    }

    pub(super) fn ask<T>(
        &mut self,
        question: impl FnOnce(&mut Connection<Pipes>) -> worker_protocol::Result<T>,
    ) -> Result<T> {
        question(&mut self.connection).map_err(|error| match &error {
            Error::Daemon(said) if said.message.contains("lacks a signature") => {
                CliError::new(Exit::NoPermission, format!("{} refuses: {error}", self.who))
                    .hint("`trampoline-cli keys add` lets the builder take what this machine signs")
            }
            Error::Daemon(_) => CliError::new(Exit::ChildFailed, format!("{} refuses: {error}", self.who)),
            _ => CliError::new(Exit::ChildFailed, format!("lost {}: {}", self.who, why(&error))),
        })
    }
}

fn why(error: &Error) -> String {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => "it has hung up".to_owned(),
        Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

fn end(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Peer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}
