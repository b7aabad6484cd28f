//! A connection in SPDY/3.1, as kubectl's long were, without a WebSocket around it. API server and kubelet pass its bytes on as they are,
//! where in a WebSocket each message has to be unmasked and copied first, by one thread after the other.
//!
//! What we write goes on one stream, [`DATA`]; all that comes is told as it comes.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::channel::HalfClose;
use super::liveness::{Alive, LINGER, Liveness, Lost, QUIET};
use super::spdy::{self, DATA, Event, Opening, Reader};
use super::upgrade::Socket;

/// What waits in a pipe or a socket for a program that does not read it, bytes.
const FITS: u64 = 64 << 10;
/// Messages on their way to the socket.
const OUT: usize = 8;
/// Written at once, bytes.
const BATCH: usize = 256 << 10;
/// Read at once.
const PART: usize = 64 << 10;

/// What both directions know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes of input that went to the socket.
    written: AtomicU64,
    /// Nobody reads our input any more.
    left: Notify,
    /// Our input has ended, and the other end is not told.
    ended: Notify,
}

/// What comes.
pub(super) struct Wire<S = Socket> {
    socket: ReadHalf<S>,
    reader: Reader,
    orders: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    liveness: Liveness,
    /// The last ping and what was written before it.
    asked: (u32, u64),
    lingering: bool,
    writer: JoinHandle<()>,
}

impl<S> Wire<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Opens these streams. If [`DATA`] is one of them, what is sent on it goes as [`super::channel::frame`]s of channel 0, and nothing may
    /// be before it was taken: it would be lost.
    pub(super) async fn open(
        socket: S,
        openings: &[Opening<'_>],
        half_close: HalfClose,
        alive: Alive,
    ) -> Result<(Self, mpsc::Sender<Bytes>), Lost> {
        let (socket, mut write) = tokio::io::split(socket);
        write.write_all(&spdy::open(openings)).await?;
        write.flush().await?;
        let (input, frames) = mpsc::channel(OUT);
        let (orders, control) = mpsc::channel(OUT);
        let shared = Arc::new(Shared::default());
        let frames = openings.iter().any(|opening| opening.stream == DATA).then_some(frames);
        let writer = tokio::spawn(carry(write, frames, control, half_close, Arc::clone(&shared)));
        let wire = Self {
            socket,
            reader: Reader::default(),
            orders,
            shared,
            liveness: Liveness::new(alive),
            asked: (1, 0),
            lingering: false,
            writer,
        };
        Ok((wire, input))
    }

    /// The next that is none of its own signs of life; none when the connection has ended in good order. May be dropped at any time.
    pub(super) async fn event(&mut self) -> Result<Option<Event>, Lost> {
        loop {
            while let Some(event) = self.reader.next()? {
                match event {
                    Event::Ping(id) if id % 2 == 0 => drop(self.orders.try_send(spdy::ping(id))),
                    // It answers also while a program leaves more than that unread, and at some time not any more.
                    Event::Ping(id) if id == self.asked.0 && self.asked.1 <= FITS => {
                        self.liveness.took(self.asked.1);
                    }
                    Event::Ping(_) => {}
                    event => return Ok(Some(event)),
                }
            }
            let tick = if self.lingering { LINGER } else { QUIET };
            let mut part = BytesMut::with_capacity(PART);
            tokio::select! {
                read = self.socket.read_buf(&mut part) => {
                    if read? == 0 {
                        return Ok(None);
                    }
                    self.liveness.heard();
                    self.reader.push(part.freeze());
                }
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

    async fn quiet(&mut self) -> Result<(), Lost> {
        let written = self.shared.written.load(Ordering::Relaxed);
        let id = self.asked.0 + 2;
        match self.orders.try_send(spdy::ping(id)) {
            Ok(()) => self.asked = (id, written),
            // The socket takes nothing, and what was sent before will be answered first.
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Closed(_)) => return Err(Lost::unwritten()),
        }
        self.liveness.quiet(written).await
    }

    /// Sends frames besides the input.
    pub(super) async fn send(&mut self, frames: Bytes) {
        // A connection that is lost is told by `event`.
        let _ = self.orders.send(frames).await;
    }

    /// Nobody reads our input any more: it ends, whatever is left of it.
    pub(super) fn leave(&self) {
        self.shared.left.notify_one();
    }
}

impl<S> Drop for Wire<S> {
    fn drop(&mut self) {
        // Nobody waits for what would have been read.
        self.writer.abort();
    }
}

async fn carry<S>(
    mut socket: WriteHalf<S>,
    mut frames: Option<mpsc::Receiver<Bytes>>,
    mut orders: mpsc::Receiver<Bytes>,
    half_close: HalfClose,
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut out = BytesMut::new();
    let mut is_left = false;
    loop {
        out.clear();
        if is_left && frames.take().is_some() {
            spdy::put_end(&mut out, DATA);
        } else {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(order) => out.extend_from_slice(&order),
                    None => return,
                },
                () = shared.left.notified(), if !is_left => is_left = true,
                first = next(&mut frames), if frames.is_some() => {
                    let mut frame = first;
                    while let Some(bytes) = frame {
                        spdy::put(&mut out, DATA, bytes.get(1..).unwrap_or_default());
                        frame = frames.as_mut().filter(|_| out.len() < BATCH).and_then(|frames| frames.try_recv().ok());
                    }
                    shared.written.fetch_add(out.len() as u64, Ordering::Relaxed);
                    if out.is_empty() {
                        frames = None;
                        match half_close {
                            HalfClose::Told => spdy::put_end(&mut out, DATA),
                            HalfClose::Untold => shared.ended.notify_one(),
                        }
                    }
                }
            }
        }
        let mut write = pin!(async {
            socket.write_all(&out).await?;
            socket.flush().await
        });
        let written = loop {
            tokio::select! {
                written = &mut write => break written,
                // Nobody sends more meanwhile; a frame that was begun is written to its end all the same.
                () = shared.left.notified(), if !is_left => {
                    is_left = true;
                    if let Some(frames) = &mut frames {
                        frames.close();
                    }
                }
            }
        };
        // The reading side says why.
        if written.is_err() {
            return;
        }
    }
}

async fn next(frames: &mut Option<mpsc::Receiver<Bytes>>) -> Option<Bytes> {
    match frames {
        Some(frames) => frames.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;
    use crate::engine::kubernetes::channel;
    use crate::engine::kubernetes::liveness::always;

    /// Takes so many writes, and says nothing.
    struct Mute(usize);

    impl AsyncRead for Mute {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Mute {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            let left = self.0.checked_sub(1).ok_or(io::ErrorKind::TimedOut)?;
            self.0 = left;
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn writing_that_fails_is_told_to_whoever_reads() {
        let opened = Wire::open(Mute(1), &spdy::port("22"), HalfClose::Untold, always()).await;
        let (mut wire, input) = opened.expect("it takes them");
        input.send(channel::frame(0, b"ab")).await.expect("is taken");
        let told = tokio::time::timeout(QUIET * 2, wire.event()).await;
        assert_eq!(told.expect("at the next question"), Err(Lost::unwritten()));
    }
}
