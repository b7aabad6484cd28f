//! What a forwarded port says, however it travels.

use std::future::Future;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::channel::Incoming;
use super::liveness::Lost;
use super::spdy::{self, Event};
use super::stream::Feed;
use super::wire::Wire;

/// The channel of what the port says.
const DATA: u8 = 0;
/// That of why there is nothing to hear from it, in words.
const ERROR: u8 = 1;

/// Where what the port says comes from.
pub(super) trait Source: Send {
    /// The next of it; nothing is its end.
    fn part(&mut self) -> impl Future<Output = io::Result<Bytes>> + Send;
}

/// Until either end has gone.
pub(super) async fn carry(mut source: impl Source, feed: Feed) {
    loop {
        let part = source.part().await;
        let over = part.as_ref().map_or(true, Bytes::is_empty);
        if feed.send(part).await.is_err() || over {
            return;
        }
    }
}

/// In channels.
pub(super) struct Channels<S> {
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

impl<S> Channels<S> {
    pub(super) fn new(incoming: Incoming<S>, port: u16) -> Self {
        Self { incoming, port, greeted: [false; 2] }
    }
}

/// Where SPDY comes from.
pub(super) trait Events: Send {
    /// The next that is no sign of life; nothing is the connection's end.
    fn event(&mut self) -> impl Future<Output = Result<Option<Event>, Lost>> + Send;
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Events for Wire<S> {
    async fn event(&mut self) -> Result<Option<Event>, Lost> {
        Wire::event(self).await
    }
}

/// SPDY within a WebSocket.
pub(super) struct Tunnel<S> {
    incoming: Incoming<S>,
    reader: spdy::Reader,
}

impl<S> Tunnel<S> {
    pub(super) fn new(incoming: Incoming<S>) -> Self {
        Self { incoming, reader: spdy::Reader::default() }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Events for Tunnel<S> {
    async fn event(&mut self) -> Result<Option<Event>, Lost> {
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

/// In SPDY.
pub(super) struct Frames<E> {
    events: E,
    /// What is wrong, so far.
    trouble: Vec<u8>,
}

impl<E> Frames<E> {
    pub(super) fn new(events: E) -> Self {
        Self { events, trouble: Vec::new() }
    }
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    use super::*;
    use crate::engine::kubernetes::channel::{self, HalfClose};
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
        all(Tunnel::new(incoming)).await
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
        let mut source = Frames::new(events);
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
        let mut source = Frames::new(wire);
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
