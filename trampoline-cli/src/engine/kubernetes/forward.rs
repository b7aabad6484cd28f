//! A connection to a port of the pod, over the API server.
//!
//! Runtimes give a direction that still talks one second when the other has ended, and channels have no word for that end: so the
//! end of our side is not told; the connection stays until the other side has nothing to say any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use contract::exit::Exit;
use contract::places::{Container, SSH_PORT};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::channel::{self, HalfClose};
use super::client::Cluster;
use super::pod_of;
use super::port::{self, Channels, Frames, Tunnel};
use super::spdy;
use super::stream::{Input, Output};
use super::target::Target;
use super::tunnel::{self, Carrier};
use super::way::{self, Way};
use super::wire::Wire;
use crate::error::{CliError, Result};

/// sshd speaks first, and at once.
const GREETING: Duration = Duration::from_secs(20);

/// Both directions of a forwarded port.
pub(super) struct Forward {
    output: Output,
    input: Input,
}

/// To the pod's sshd. It has said its first word when this returns.
pub(super) async fn connect(cluster: &Cluster, builder: &str) -> Result<Box<dyn crate::engine::Duplex>> {
    let target = Target::new(builder, Container::User);
    let mut forward = open(cluster, &target, SSH_PORT).await?;
    match tokio::time::timeout(GREETING, forward.output.first()).await {
        Ok(Ok(true)) => Ok(Box::new(forward)),
        // One that was accepted before the listener went.
        Ok(Ok(false)) => Err(refused(&target, "it was closed")),
        Ok(Err(error)) => Err(refused(&target, &error.to_string())),
        Err(_) => Err(CliError::new(
            Exit::Stopping,
            format!(
                "sshd of builder {builder} took a connection, but said nothing for {} s",
                GREETING.as_secs()
            ),
        )
        .hint("`trampoline-cli logs user` shows what it is at")),
    }
}

/// To any port of the pod that speaks first: nothing may be written before.
async fn open(cluster: &Cluster, target: &Target, number: u16) -> Result<Forward> {
    let name = pod_of(&target.builder);
    let url = Pod::url_path(&(), Some(&cluster.namespace));
    let client = &cluster.client;
    let request =
        || Request::new(url.as_str()).portforward(&name, &[number]).map_err(kube::Error::BuildRequest);
    let open = || {
        let web_socket = || async { tunnel::connect(client, request()?).await };
        way::open(cluster, way::PORT, &request, web_socket)
    };
    let doing = format!("cannot reach port {number} of pod {name}");
    let way = target.reach(cluster, &doing, open).await?;
    let (feed, output) = Output::new();
    let alive = target.alive(cluster);
    let text = number.to_string();
    let streams = spdy::port(&text);
    let input = match way {
        Way::Spdy(socket) => {
            let opened = Wire::open(socket, &streams, HalfClose::Untold, alive).await;
            let (wire, input) = opened.map_err(|lost| target.lost(&lost))?;
            tokio::spawn(port::carry(Frames::new(wire), feed));
            Input::new(input)
        }
        Way::WebSocket((socket, carrier)) => {
            let (incoming, input) = channel::split(socket, HalfClose::Untold, alive);
            match carrier {
                Carrier::Spdy => {
                    // A connection that is lost is told by whoever reads.
                    let _ = input.send(spdy::open(&streams)).await;
                    tokio::spawn(port::carry(Frames::new(Tunnel::new(incoming)), feed));
                    Input::wrapped(input, spdy::data)
                }
                Carrier::Channels => {
                    tokio::spawn(port::carry(Channels::new(incoming, number), feed));
                    Input::new(input)
                }
            }
        }
    };
    Ok(Forward { output, input })
}

/// In the words of the node, which are long.
fn refused(target: &Target, words: &str) -> CliError {
    let builder = &target.builder;
    if words.contains("connection refused") {
        return CliError::new(Exit::Stopping, format!("sshd of builder {builder} does not run (yet)"))
            .hint("`trampoline-cli logs user` shows what it is at; without a key in `authorized-keys` it does not start");
    }
    if ["sandbox", "not found", "network namespace"].iter().any(|text| words.contains(text)) {
        return target.not_running();
    }
    // A listener that ends while somebody waits for it ends like that; whoever tries again is told better.
    CliError::new(
        Exit::Stopping,
        format!("the connection to builder {builder} ended before sshd had said a word: {words}"),
    )
    .hint("`trampoline-cli status` shows how the builder is")
}

impl AsyncRead for Forward {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.output).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Forward {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.input).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.input).poll_shutdown(cx)
    }
}
