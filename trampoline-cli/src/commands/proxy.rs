//! `proxy`: OpenSSH's ProxyCommand. Starts the builder and passes bytes to its sshd.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use clap::Args;
use contract::exit::Exit;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::engine::Duplex;
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::wake;

/// Bytes that are read at once.
const PART: usize = 128 << 10;
/// Parts on their way between a thread and the connection.
const PARTS: usize = 4;
/// A builder that serves listens again by then, whatever it was asked meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// A builder that stops again and again is somebody else's wish.
const STARTS: u32 = 5;

/// Pass stdin and stdout to the builder's sshd (for ssh's ProxyCommand)
#[derive(Args)]
#[command(after_help = "\
Examples:
  ssh -o ProxyCommand='trampoline-cli proxy alice' nix@alice")]
pub(crate) struct Proxy {
    /// The builder
    #[arg(value_name = "BUILDER")]
    builder: String,
}

impl Proxy {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::named(global, &self.builder)?;
        let (down, up) = tokio::io::split(reach(&context).await?);
        splice(down, up)
            .await
            .map_err(|error| CliError::engine(format!("the connection to the builder broke: {error}")))?;
        Ok(0)
    }
}

/// A connection whose first word sshd has said. Until then nothing of what ssh says has gone to the builder, so that one that starts
/// or stops can be waited for: it listens to nobody meanwhile.
async fn reach(context: &Context) -> Result<Box<dyn Duplex>> {
    let mut deadline = Instant::now() + PATIENCE;
    let mut starts = 0;
    loop {
        let observed = wake::running(context).await?;
        let error = match context.engine.connect(&observed).await {
            Err(error) if error.exit == Exit::Stopping => error,
            connected => return connected,
        };
        if wake::back(context).await? {
            starts += 1;
            if starts > STARTS {
                return Err(error);
            }
            deadline = Instant::now() + PATIENCE;
        } else if Instant::now() >= deadline {
            return Err(error);
        } else {
            // Its stop was called off, or sshd itself begins anew.
            context.engine.changed(&context.name).await?;
        }
    }
}

/// Until sshd has said its last word, or ssh has gone. Two threads on the bare descriptors: the standard library's own stdout
/// holds back what does not end a line, and a key exchange has no lines.
async fn splice(
    mut down: impl AsyncRead + Unpin,
    mut up: impl AsyncWrite + Unpin + Send + 'static,
) -> io::Result<()> {
    let mut said = from_stdin()?;
    let (heard, written) = to_stdout()?;
    tokio::spawn(async move {
        while let Some(part) = said.recv().await {
            // A connection that is lost is told by the other direction.
            up.write_all(&part).await?;
            up.flush().await?;
        }
        // The other direction ends when sshd has said its last word.
        up.shutdown().await
    });
    loop {
        let mut part = Vec::with_capacity(PART);
        if down.read_buf(&mut part).await? == 0 {
            break;
        }
        // ssh ended first, as it does when its work is done.
        if heard.send(part).await.is_err() {
            return Ok(());
        }
    }
    drop(heard);
    written.await.map_err(io::Error::other)?
}

/// By hand: `io::copy` uses splice(2), which keeps bytes on their way from a pipe to a socket back until more come (Linux 6.5 and
/// newer), and both sides wait for ever.
fn from_stdin() -> io::Result<mpsc::Receiver<Vec<u8>>> {
    let mut stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let (sender, parts) = mpsc::channel(PARTS);
    // Not one of the runtime's threads: it may wait for ssh for ever, and nobody waits for it.
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut part = vec![0; PART];
        loop {
            match stdin.read(&mut part) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(n) => {
                    if sender.blocking_send(part[..n].to_vec()).is_err() {
                        return;
                    }
                }
            }
        }
    })?;
    Ok(parts)
}

/// Parts to write, and how that went.
type Writing = (mpsc::Sender<Vec<u8>>, tokio::task::JoinHandle<io::Result<()>>);

fn to_stdout() -> io::Result<Writing> {
    let mut stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let (sender, mut parts) = mpsc::channel::<Vec<u8>>(PARTS);
    let written = tokio::task::spawn_blocking(move || {
        while let Some(part) = parts.blocking_recv() {
            match stdout.write_all(&part) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
                other => other?,
            }
        }
        Ok(())
    });
    Ok((sender, written))
}
