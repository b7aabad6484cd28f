//! `proxy`: OpenSSH's ProxyCommand. Starts the builder and passes bytes to its sshd.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use clap::Args;

use crate::cli::Global;
use crate::context::Context;
use crate::error::{CliError, Result};
use crate::wake;

/// The builder is on this machine: who does not answer by then will not.
const CONNECT: Duration = Duration::from_secs(10);

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
        let observed = wake::running(&context).await?;
        let address = context.engine.ssh_address(&observed).await?;
        let stream = match connect(address) {
            Ok(stream) => stream,
            // The pod runs, sshd does not yet: somebody else's start.
            Err(_) => {
                wake::ready(&context, &format!("reaching builder {}", context.name)).await?;
                connect(address)?
            }
        };
        splice(stream)
            .map_err(|error| CliError::engine(format!("the connection to the builder broke: {error}")))?;
        Ok(0)
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT).map_err(|error| {
        CliError::engine(format!("cannot connect to the builder's sshd on {address}: {error}"))
    })?;
    // Key strokes are small.
    stream
        .set_nodelay(true)
        .map_err(|error| CliError::engine(format!("cannot set up {address}: {error}")))?;
    Ok(stream)
}

/// Two plain threads on the bare descriptors: the standard library's own stdout holds back what does not end a line, and a
/// key exchange has no lines.
fn splice(stream: TcpStream) -> io::Result<()> {
    let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    let up = stream.try_clone()?;
    std::thread::spawn(move || {
        let copied = pass(stdin, &up);
        // The other direction ends when sshd has said its last word.
        copied.and_then(|()| up.shutdown(Shutdown::Write))
    });
    match pass(stream, stdout) {
        // ssh ended first, as it does when its work is done.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// By hand: `io::copy` uses splice(2), which keeps bytes on their way from a pipe to a socket back until more come (Linux 6.5 and
/// newer), and both sides wait for ever.
fn pass(mut from: impl Read, mut to: impl Write) -> io::Result<()> {
    let mut buffer = vec![0; 128 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(n) => to.write_all(&buffer[..n])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
