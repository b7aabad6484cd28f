//! `proxy`: OpenSSH's ProxyCommand. Starts the builder and passes bytes to its sshd.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpStream};
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

/// Two plain threads: the kernel moves the bytes of pipes and sockets without a copy of ours.
fn splice(stream: TcpStream) -> io::Result<()> {
    let mut up = stream.try_clone()?;
    std::thread::spawn(move || {
        let copied = io::copy(&mut io::stdin().lock(), &mut up);
        // The other direction ends when sshd has said its last word.
        copied.and_then(|_| up.shutdown(Shutdown::Write))
    });
    let mut down = stream;
    io::copy(&mut down, &mut io::stdout().lock()).map(drop)
}
