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
use super::wire::{self, Way, Wire};
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
    let request =
        || Request::new(url.as_str()).portforward(&name, &[port]).map_err(kube::Error::BuildRequest);
    let open = || {
        let web_socket = || async { tunnel::connect(client, request()?).await };
        wire::or(cluster, wire::PORT, &request, web_socket)
    };
    let doing = format!("cannot reach port {port} of pod {name}");
    let way = target.reach(cluster, &doing, open).await?;
    let (feed, output) = Output::new();
    let alive = target.alive(cluster);
    let input = match way {
        Way::Spdy(socket) => {
            let text = port.to_string();
            let opened = Wire::open(socket, &spdy::port(&text), HalfClose::Untold, alive).await;
            let (wire, input) = opened.map_err(|lost| target.lost(&lost))?;
            tokio::spawn(carry(Frames { events: wire, trouble: Vec::new() }, feed));
            Input::new(input)
        }
        Way::WebSocket((socket, carrier)) => {
            let (incoming, input) = channel::split(socket, HalfClose::Untold, alive);
            match carrier {
                Carrier::Spdy => {
                    // A connection that is lost is told by whoever reads.
                    let _ = input.send(spdy::open(&spdy::port(&port.to_string()))).await;
                    let events = Tunnel { incoming, reader: spdy::Reader::default() };
                    tokio::spawn(carry(Frames { events, trouble: Vec::new() }, feed));
                    Input::wrapped(input, spdy::data)
                }
                Carrier::Channels => {
                    tokio::spawn(carry(Channels { incoming, port, greeted: [false; 2] }, feed));
                    Input::new(input)
                }
            }
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

/// Where SPDY comes from.
trait Events: Send {
    /// The next that is no sign of life; nothing is the connection's end.
    fn event(&mut self) -> impl Future<Output = std::result::Result<Option<Event>, Lost>> + Send;
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Events for Wire<S> {
    async fn event(&mut self) -> std::result::Result<Option<Event>, Lost> {
        Wire::event(self).await
    }
}

/// SPDY within a WebSocket.
struct Tunnel<S> {
    incoming: Incoming<S>,
    reader: spdy::Reader,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Events for Tunnel<S> {
    async fn event(&mut self) -> std::result::Result<Option<Event>, Lost> {
        loop {
            match self.reader.next()? {
                Some(Event::Ping(id)) => self.incoming.send(spdy::ping(id)).await,
                Some(event) => return Ok(Some(event)),
                None => match self.incoming.message().await? {
                    Some(bytes) => self.reader.push(bytes),
                    None => return Ok(None),
                },
            }
        }
    }
}

struct Frames<E> {
    events: E,
    /// What is wrong, so far.
    trouble: Vec<u8>,
}

impl<E: Events> Source for Frames<E> {
    async fn part(&mut self) -> io::Result<Bytes> {
        let lost = |why: &str| Err(Lost(why.to_owned()).into());
        loop {
            match self.events.event().await? {
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
                Some(Event::GoAway) => return lost("the node ended it"),
                Some(_) => {}
                None => return lost("it was closed before the port had said all"),
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
        all(Tunnel { incoming, reader: spdy::Reader::default() }).await
    }

    /// The same without a WebSocket.
    async fn heard_bare(messages: &[&[u8]]) -> (Vec<u8>, Option<String>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let opened = Wire::open(ours, &spdy::port("22"), HalfClose::Untold, always()).await;
        let (wire, _input) = opened.expect("it takes them");
        theirs.write_all(&messages.concat()).await.expect("fits");
        theirs.shutdown().await.expect("it ends");
        all(wire).await
    }

    async fn all(events: impl Events) -> (Vec<u8>, Option<String>) {
        let mut source = Frames { events, trouble: Vec::new() };
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
        for (messages, expected) in [
            (&[hi, end][..], (b"hi".to_vec(), None)),
            (&[hi], said("it was closed before the port had said all")),
            (&[hi, reset], said("the node gave it up")),
            (&[hi, trouble, reset], said("bad")),
        ] {
            assert_eq!(heard(messages).await, expected);
            assert_eq!(heard_bare(messages).await, expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_port_goes_on_when_we_have_said_all_and_is_left_when_it_says_nothing() {
        let (ours, mut theirs) = tokio::io::duplex(1 << 16);
        let opened = Wire::open(ours, &spdy::port("22"), HalfClose::Untold, always()).await;
        let (wire, input) = opened.expect("it takes them");
        let mut source = Frames { events: wire, trouble: Vec::new() };
        input.send(channel::frame(0, b"ab")).await.expect("is taken");
        drop(input);
        theirs.write_all(&[0, 0, 0, 3, 0, 0, 0, 2, b'h', b'i']).await.expect("fits");
        assert_eq!(source.part().await.expect("is said"), Bytes::from_static(b"hi"));
        let error = source.part().await.expect_err("it has not ended");
        assert_eq!(error.to_string(), "it was closed before the port had said all");
        drop(source);
        let mut sent = Vec::new();
        theirs.read_to_end(&mut sent).await.expect("it is closed");
        let said = &sent[spdy::open(&spdy::port("22")).len()..];
        assert_eq!(said, [0, 0, 0, 3, 0, 0, 0, 2, b'a', b'b'], "and no end of it");
    }
}
