//! A connection to a port of the pod, over the API server.
//!
//! The protocol has no half close, and runtimes give a direction that still talks one second when the other has ended: so the end
//! of our side is not told; the connection stays until the other side has nothing to say any more.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use contract::exit::Exit;
use contract::places::{Container, SSH_PORT};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::core::Request;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::channel::{self, HalfClose, Incoming, Lost};
use super::client::Cluster;
use super::pod_of;
use super::stream::{Feed, Input, Output};
use super::target::Target;
use crate::error::{CliError, Result};

/// What the port says.
const DATA: u8 = 0;
/// Why there is nothing to hear from it, in words.
const ERROR: u8 = 1;
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
        Ok(Ok(())) => Ok(Box::new(forward)),
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

/// To any port of the pod.
pub(super) async fn open(cluster: &Cluster, target: &Target, port: u16) -> Result<Forward> {
    let name = pod_of(&target.builder);
    let url = Pod::url_path(&(), Some(&cluster.namespace));
    let client = &cluster.client;
    let open = || async {
        let request =
            Request::new(url.as_str()).portforward(&name, &[port]).map_err(kube::Error::BuildRequest)?;
        client.connect(request).await
    };
    let doing = format!("cannot reach port {port} of pod {name}");
    let connection = target.reach(cluster, &doing, open).await?;
    let (incoming, input) =
        channel::split(connection.into_stream(), HalfClose::Untold, target.alive(cluster));
    let (feed, output) = Output::new();
    tokio::spawn(carry(incoming, feed, port));
    Ok(Forward { output, input: Input::new(input) })
}

/// Until either end has gone.
async fn carry<S>(mut incoming: Incoming<S>, feed: Feed, port: u16)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Each channel begins with the port that it stands for.
    let mut greeted = [false; 2];
    loop {
        let part = match incoming.next().await {
            Ok(Some((channel @ (DATA | ERROR), bytes))) if !greeted[usize::from(channel)] => {
                if bytes[..] == port.to_le_bytes() {
                    greeted[usize::from(channel)] = true;
                    continue;
                }
                Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the API server forwards another port than it was asked for",
                ))
            }
            Ok(Some((DATA, bytes))) => Ok(bytes),
            Ok(Some((ERROR, bytes))) => Err(io::Error::other(String::from_utf8_lossy(&bytes).into_owned())),
            Ok(Some(_)) => continue,
            Ok(None) => Ok(Bytes::new()),
            Err(lost) => Err(Lost(lost.0).into()),
        };
        let over = part.as_ref().map_or(true, Bytes::is_empty);
        if feed.send(part).await.is_err() || over {
            return;
        }
    }
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
