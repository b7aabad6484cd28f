//! Channels over one WebSocket: how the API server carries the streams of a command (`v5.channel.k8s.io`) and, if it is old, a
//! forwarded port (`v4.channel.k8s.io`). The first byte of each message names its channel.
//!
//! The two directions are independent: a slow reader holds back what the server sends and nothing else. A connection that ends
//! before what it carries is an error for whoever reads, never an end of file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::liveness::{Alive, LINGER, Liveness, Lost, QUIET};

/// Payload of one message. The server copies in pieces of 32 KiB: larger ones are cut, smaller ones cost a system call each.
pub(super) const FRAME: usize = 32 << 10;
/// Messages on their way to the socket.
const OUT: usize = 8;
/// Its message closes the channel that it names (v5 only).
const CLOSE: u8 = 255;

/// How the end of our input is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HalfClose {
    /// By a message.
    Told,
    /// Not at all: the protocol has no word for it.
    Untold,
}

/// What both directions know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes of input that went to the socket.
    written: AtomicU64,
    /// Our input has ended, and the other end cannot be told.
    ended: Notify,
}

/// Messages from the server.
pub(super) struct Incoming<S> {
    stream: SplitStream<WebSocketStream<S>>,
    control: mpsc::Sender<Message>,
    shared: Arc<Shared>,
    lingering: bool,
    liveness: Liveness,
    writer: JoinHandle<()>,
}

/// Both directions of a connection. What is sent goes as messages, as they are.
pub(super) fn split<S>(
    socket: WebSocketStream<S>,
    half_close: HalfClose,
    alive: Alive,
) -> (Incoming<S>, mpsc::Sender<Bytes>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = socket.split();
    let (input, frames) = mpsc::channel(OUT);
    let (control, orders) = mpsc::channel(OUT);
    let shared = Arc::new(Shared::default());
    let writer = tokio::spawn(write(sink, frames, orders, half_close, Arc::clone(&shared)));
    let incoming =
        Incoming { stream, control, shared, lingering: false, liveness: Liveness::new(alive), writer };
    (incoming, input)
}

/// A message on a channel.
pub(super) fn frame(channel: u8, payload: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(payload.len() + 1);
    frame.put_u8(channel);
    frame.put_slice(payload);
    frame.freeze()
}

async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    mut frames: mpsc::Receiver<Bytes>,
    mut orders: mpsc::Receiver<Message>,
    half_close: HalfClose,
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut open = true;
    loop {
        let done = tokio::select! {
            order = orders.recv() => match order {
                Some(order) => sink.send(order).await,
                None => break,
            },
            first = frames.recv(), if open => match first {
                Some(first) => pass(&mut sink, first, &mut frames, &shared).await,
                None => {
                    open = false;
                    match half_close {
                        HalfClose::Told => sink.send(Message::Binary(frame(CLOSE, &[0]))).await,
                        HalfClose::Untold => {
                            shared.ended.notify_one();
                            Ok(())
                        }
                    }
                }
            },
        };
        // The reading side says why.
        if done.is_err() {
            return;
        }
    }
    // The other end may be gone already.
    let _ = sink.close().await;
}

/// All that is there, then one flush.
async fn pass<S>(
    sink: &mut SplitSink<WebSocketStream<S>, Message>,
    first: Bytes,
    frames: &mut mpsc::Receiver<Bytes>,
    shared: &Shared,
) -> Result<(), Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut next = Some(first);
    while let Some(bytes) = next {
        shared.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        sink.feed(Message::Binary(bytes)).await?;
        next = frames.try_recv().ok();
    }
    sink.flush().await
}

impl<S> Incoming<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// The next message of a channel and what it carries; none when the server has closed the connection in good order. May be
    /// dropped at any time.
    pub(super) async fn next(&mut self) -> Result<Option<(u8, Bytes)>, Lost> {
        while let Some(mut bytes) = self.message().await? {
            let channel = bytes.get_u8();
            // An empty message says that a channel is there.
            if !bytes.is_empty() {
                return Ok(Some((channel, bytes)));
            }
        }
        Ok(None)
    }

    /// The same for whatever has no channels.
    pub(super) async fn message(&mut self) -> Result<Option<Bytes>, Lost> {
        loop {
            let tick = if self.lingering { LINGER } else { QUIET };
            tokio::select! {
                message = self.stream.next() => match self.take(message)? {
                    Taken::Message(bytes) => return Ok(Some(bytes)),
                    Taken::End => return Ok(None),
                    Taken::Sign => {}
                },
                () = self.shared.ended.notified(), if !self.lingering => self.lingering = true,
                () = tokio::time::sleep(tick) => {
                    if self.lingering {
                        return Ok(None);
                    }
                    self.quiet().await?;
                }
            }
        }
    }

    fn take(&mut self, message: Option<Result<Message, Error>>) -> Result<Taken, Lost> {
        self.liveness.heard();
        match message {
            Some(Ok(Message::Binary(bytes))) if !bytes.is_empty() => Ok(Taken::Message(bytes)),
            Some(Ok(Message::Pong(payload))) => {
                if let Ok(taken) = <[u8; 8]>::try_from(&payload[..]) {
                    self.liveness.took(u64::from_be_bytes(taken));
                }
                Ok(Taken::Sign)
            }
            Some(Ok(Message::Close(_))) | None => Ok(Taken::End),
            Some(Ok(_)) => Ok(Taken::Sign),
            Some(Err(error)) => Err(lost(error)),
        }
    }

    async fn quiet(&mut self) -> Result<(), Lost> {
        let written = self.shared.written.load(Ordering::Relaxed);
        let ping = Message::Ping(Bytes::copy_from_slice(&written.to_be_bytes()));
        // A full queue: the socket takes nothing, and what was sent before will be answered first.
        if let Err(TrySendError::Closed(_)) = self.control.try_send(ping) {
            return Err(Lost::unwritten());
        }
        self.liveness.quiet(written).await
    }

    /// A message besides the input.
    pub(super) async fn send(&self, message: Bytes) {
        // A connection that is lost is told by `next`.
        let _ = self.control.send(Message::Binary(message)).await;
    }
}

enum Taken {
    Message(Bytes),
    Sign,
    End,
}

impl<S> Drop for Incoming<S> {
    fn drop(&mut self) {
        // The writer says goodbye and ends by itself, unless the socket takes nothing.
        if self.control.capacity() == 0 {
            self.writer.abort();
        }
    }
}

fn lost(error: Error) -> Lost {
    match error {
        Error::Protocol(_) => Lost::in_the_middle(),
        Error::Io(error) => error.into(),
        other => io::Error::other(other).into(),
    }
}

#[cfg(test)]
#[path = "channel_tests.rs"]
mod tests;
