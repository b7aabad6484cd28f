//! The pod's SSH port on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use contract::exit::Exit;
use tokio::net::TcpStream;

use crate::engine::Duplex;
use crate::error::{CliError, Result};

/// The builder is on this machine: who does not answer by then will not.
const CONNECT: Duration = Duration::from_secs(10);

/// To sshd.
pub(super) async fn connect(address: SocketAddr) -> Result<Box<dyn Duplex>> {
    // The pod runs, sshd does not yet: somebody else's start.
    let not_there = |why: String| {
        CliError::new(Exit::Stopping, format!("cannot connect to the builder's sshd on {address}: {why}"))
            .hint("`trampoline-cli logs user` shows what it is at")
    };
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(|error| not_there(error.to_string()))?,
        Err(_) => return Err(not_there(format!("no answer within {} s", CONNECT.as_secs()))),
    };
    // Key strokes are small.
    stream
        .set_nodelay(true)
        .map_err(|error| CliError::engine(format!("cannot set up {address}: {error}")))?;
    Ok(Box::new(stream))
}
