//! A connection to a port of the pod, over the API server.
//!
//! Runtimes give a direction that still talks one second when the other has ended, and channels have no word for that end: so the
//! end of our side is not told; the connection stays until the other side has nothing to say any more.

use std::future::Future;
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

use super::channel::{self, HalfClose, Incoming};
use super::client::Cluster;
use super::liveness::Lost;
use super::pod_of;
use super::spdy::{self, Event};
use super::stream::{Feed, Input, Output};
use super::target::Target;
use super::tunnel::{self, Carrier};
use crate::error::{CliError, Result};

/// The channel of what the port says.
const DATA: u8 = 0;
/// That of why there is nothing to hear from it, in words.
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
async fn open(cluster: &Cluster, target: &Target, port: u16) -> Result<Forward> {
    let name = pod_of(&target.builder);
    let url = Pod::url_path(&(), Some(&cluster.namespace));
    let client = &cluster.client;
    let open = || async {
        let request =
            Request::new(url.as_str()).portforward(&name, &[port]).map_err(kube::Error::BuildRequest)?;
        tunnel::connect(client, request).await
    };
    let doing = format!("cannot reach port {port} of pod {name}");
    let (socket, carrier) = target.reach(cluster, &doing, open).await?;
    let (incoming, input) = channel::split(socket, HalfClose::Untold, target.alive(cluster));
    let (feed, output) = Output::new();
    let input = match carrier {
        Carrier::Spdy => {
            // A connection that is lost is told by whoever reads.
            let _ = input.send(spdy::open_port(port)).await;
            tokio::spawn(carry(
                Frames { incoming, reader: spdy::Reader::default(), trouble: Vec::new() },
                feed,
            ));
            Input::wrapped(input, spdy::data)
        }
        Carrier::Channels => {
            tokio::spawn(carry(Channels { incoming, port, greeted: [false; 2] }, feed));
            Input::new(input)
        }
    };
    Ok(Forward { output, input })
}

/// Where what the port says comes from.
trait Source: Send {
    /// The next of it; nothing is its end.
    fn part(&mut self) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// Until either end has gone.
async fn carry(mut source: impl Source, feed: Feed) {
    loop {
        let part = source.part().await;
        let over = part.as_ref().map_or(true, Bytes::is_empty);
        if feed.send(part).await.is_err() || over {
            return;
        }
    }
}

struct Channels<S> {
    incoming: Incoming<S>,
    port: u16,
    /// Each channel begins with the port that it stands for.
    greeted: [bool; 2],
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Source for Channels<S> {
    async fn part(&mut self) -> io::Result<Bytes> {
        while let Some((channel, bytes)) = self.incoming.next().await? {
            match channel {
                DATA | ERROR if !self.greeted[usize::from(channel)] => {
                    if bytes[..] != self.port.to_le_bytes() {
                        return Err(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "the API server forwards another port than it was asked for",
                        ));
                    }
                    self.greeted[usize::from(channel)] = true;
                }
                DATA => return Ok(bytes),
                ERROR => return Err(io::Error::other(String::from_utf8_lossy(&bytes).into_owned())),
                _ => {}
            }
        }
        Ok(Bytes::new())
    }
}

struct Frames<S> {
    incoming: Incoming<S>,
    reader: spdy::Reader,
    /// What is wrong, so far.
    trouble: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Source for Frames<S> {
    async fn part(&mut self) -> io::Result<Bytes> {
        let lost = |why: &str| Err(Lost(why.to_owned()).into());
        loop {
            match self.reader.next()? {
                Some(Event::Data(spdy::DATA, bytes)) => return Ok(bytes),
                Some(Event::Fin(spdy::DATA)) => return Ok(Bytes::new()),
                // It is told before the data's stream is given up.
                Some(Event::Data(spdy::ERROR, bytes)) => self.trouble.extend_from_slice(&bytes),
                Some(Event::Reset(spdy::DATA)) if self.trouble.is_empty() => {
                    return lost("the node gave it up");
                }
                Some(Event::Reset(spdy::DATA)) => {
                    return Err(io::Error::other(String::from_utf8_lossy(&self.trouble).into_owned()));
                }
                Some(Event::Ping(id)) => self.incoming.send(spdy::ping(id)).await,
                Some(Event::GoAway) => return lost("the node ended it"),
                Some(Event::Data(..) | Event::Fin(_) | Event::Reset(_) | Event::Reply(_)) => {}
                None => match self.incoming.message().await? {
                    Some(bytes) => self.reader.push(bytes),
                    None => return lost("it was closed before the port had said all"),
                },
            }
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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::engine::kubernetes::liveness::always;

    /// What comes of messages, after which the server closes the connection in good order.
    async fn heard(messages: &[&[u8]]) -> (Vec<u8>, Option<String>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
        let (incoming, _input) = channel::split(socket, HalfClose::Untold, always());
        for message in messages {
            theirs.write_all(&[0x82, u8::try_from(message.len()).expect("short")]).await.expect("fits");
            theirs.write_all(message).await.expect("fits");
        }
        theirs.write_all(&[0x88, 2, 3, 0xe8]).await.expect("fits");
        let mut source = Frames { incoming, reader: spdy::Reader::default(), trouble: Vec::new() };
        let mut bytes = Vec::new();
        loop {
            match source.part().await {
                Ok(part) if part.is_empty() => return (bytes, None),
                Ok(part) => bytes.extend_from_slice(&part),
                Err(error) => return (bytes, Some(error.to_string())),
            }
        }
    }

    #[tokio::test]
    async fn only_a_port_that_has_said_all_has_an_end() {
        let hi: &[u8] = &[0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i'];
        let (end, reset): (&[u8], &[u8]) =
            (&[0, 0, 0, 3, 1, 0, 0, 0], &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0, 5]);
        let trouble: &[u8] = &[0, 0, 0, 1, 0, 0, 0, 3, b'b', b'a', b'd'];
        let said = |why: &str| (b"hi".to_vec(), Some(why.to_owned()));
        assert_eq!(heard(&[hi, end]).await, (b"hi".to_vec(), None));
        assert_eq!(heard(&[hi]).await, said("it was closed before the port had said all"));
        assert_eq!(heard(&[hi, reset]).await, said("the node gave it up"));
        assert_eq!(heard(&[hi, trouble, reset]).await, said("bad"));
    }
}
