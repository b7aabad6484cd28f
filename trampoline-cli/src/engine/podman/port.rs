//! The pod's SSH port on this machine.

use std::net::SocketAddr;
use std::time::Duration;

use contract::exit::Exit;
use tokio::net::TcpStream;

use super::command;
use crate::engine::Duplex;
use crate::error::{CliError, Result};

/// The builder is on this machine: who does not answer by then will not.
const CONNECT: Duration = Duration::from_secs(10);

/// sshd speaks first, and at once.
const GREETING: Duration = Duration::from_secs(20);

/// To sshd, which has said its first word when this returns.
pub(super) async fn connect(address: SocketAddr) -> Result<Box<dyn Duplex>> {
    // The pod runs, sshd does not yet, or no more: somebody else's start or stop.
    let not_there = |why: String| {
        CliError::new(Exit::Stopping, format!("cannot connect to the builder's sshd on {address}: {why}"))
            .hint(if command::is_remote() {
                "podman runs on another machine, of which this port has to be one of ours too, as `podman machine` makes it; `shell`, \
                 `build` and `push-tarball` need no port"
            } else {
                "`trampoline-cli logs user` shows what it is at"
            })
    };
    let stream = match tokio::time::timeout(CONNECT, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(|error| not_there(error.to_string()))?,
        Err(_) => return Err(not_there(format!("no answer within {} s", CONNECT.as_secs()))),
    };
    match tokio::time::timeout(GREETING, stream.peek(&mut [0])).await {
        Ok(Ok(1..)) => {}
        Ok(Ok(0)) => return Err(not_there("it was closed before sshd had said a word".to_owned())),
        Ok(Err(error)) => return Err(not_there(error.to_string())),
        Err(_) => return Err(not_there(format!("sshd said nothing for {} s", GREETING.as_secs()))),
    }
    // Key strokes are small.
    stream
        .set_nodelay(true)
        .map_err(|error| CliError::engine(format!("cannot set up {address}: {error}")))?;
    Ok(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_connection_is_one_when_sshd_has_spoken() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let served = tokio::spawn(async move {
            // A listener that ends drops whom it has not greeted; so does a port that is passed on.
            drop(listener.accept().await.expect("a client"));
            let (mut client, _) = listener.accept().await.expect("a client");
            client.write_all(b"SSH-2.0").await.expect("it listens");
        });
        let error = connect(address).await.err().expect("nobody spoke");
        assert_eq!(error.exit, Exit::Stopping, "{error}");
        let mut connected = connect(address).await.expect("sshd spoke");
        let mut said = String::new();
        connected.read_to_string(&mut said).await.expect("readable");
        assert_eq!(said, "SSH-2.0", "nothing of it is lost");
        served.await.expect("it ends");
        assert_eq!(connect(address).await.err().expect("nobody listens").exit, Exit::Stopping);
    }
}
