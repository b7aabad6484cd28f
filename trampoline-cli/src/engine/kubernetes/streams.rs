//! The streams of a command in SPDY/3.1, which kubectl spoke before it had WebSockets. API server and kubelet pass its bytes on as
//! they are, where the kubelet takes a WebSocket apart byte by byte, in one thread; and the end of each output is told.
//!
//! How the command ended comes on a stream of its own, behind all of its output; the connection may end without ending that.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HeaderName, UPGRADE};
use http::{Method, Request};
use kube::api::AttachParams;
use kube::client::UpgradeConnectionError;
use kube::{Client, Error, Result};
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;

use super::exec::{STATUS, STDERR, STDOUT};
use super::liveness::{Alive, Liveness, Lost, QUIET};
use super::spdy::{self, ERROR, Event, Opening, Reader};
use super::upgrade::{Socket, says, upgrade};

const SPDY: &str = "SPDY/3.1";
/// What its streams are.
const PROTOCOL: &str = "v4.channel.k8s.io";
const PROTOCOL_HEADER: HeaderName = HeaderName::from_static("x-stream-protocol-version");
/// Streams besides [`ERROR`].
const INPUT: u32 = 3;
const OUTPUT: u32 = 5;
const WORDS: u32 = 7;
const TERMINAL: u32 = 9;
/// The container runtime is given as long to take them.
const TAKEN: Duration = Duration::from_secs(30);
/// Input that waits in a pipe for a command that does not read it, bytes.
const FITS: u64 = 64 << 10;
/// Messages on their way to the socket.
const OUT: usize = 8;
/// Written at once, bytes.
const BATCH: usize = 256 << 10;
/// Read at once.
const PART: usize = 64 << 10;

/// Asks for a command. Refused where the server, or something in between, does not speak SPDY: then nothing was started.
pub(super) async fn connect(client: &Client, request: Request<Vec<u8>>) -> Result<Socket> {
    let (mut parts, body) = request.into_parts();
    parts.method = Method::POST;
    let request = Request::from_parts(parts, body);
    let headers = [(UPGRADE, SPDY), (PROTOCOL_HEADER, PROTOCOL)];
    let (answer, socket) = upgrade(client, request, &headers).await?;
    if says(&answer, &UPGRADE, SPDY) && says(&answer, &PROTOCOL_HEADER, PROTOCOL) {
        Ok(socket)
    } else {
        Err(Error::UpgradeConnection(UpgradeConnectionError::SecWebSocketProtocolMismatch))
    }
}

/// What both directions know of each other.
#[derive(Debug, Default)]
struct Shared {
    /// Bytes of input that went to the socket.
    written: AtomicU64,
    /// Nobody reads our input any more.
    left: Notify,
}

/// What comes of a command.
pub(super) struct Streams<S = Socket> {
    socket: ReadHalf<S>,
    reader: Reader,
    orders: mpsc::Sender<Bytes>,
    shared: Arc<Shared>,
    liveness: Liveness,
    /// The last ping and what was written before it.
    asked: (u32, u64),
    /// How it ended, so far.
    status: BytesMut,
    /// Which have not ended.
    outputs: Vec<u32>,
    writer: JoinHandle<()>,
}

impl<S> Streams<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Opens the streams of a command; what is sent goes as [`super::channel::frame`]s of channel 0.
    pub(super) async fn open(
        socket: S,
        params: &AttachParams,
        alive: Alive,
    ) -> std::result::Result<(Self, mpsc::Sender<Bytes>), Lost> {
        let all = [
            (ERROR, "error", true),
            (INPUT, "stdin", params.stdin),
            (OUTPUT, "stdout", params.stdout),
            (WORDS, "stderr", params.stderr),
            (TERMINAL, "resize", params.tty),
        ];
        let wanted = all.into_iter().filter(|(.., wanted)| *wanted);
        let openings: Vec<_> = wanted
            .map(|(stream, kind, _)| Opening {
                stream,
                is_silent: false,
                headers: vec![("streamtype", kind)],
            })
            .collect();
        let (mut read, mut write) = tokio::io::split(socket);
        write.write_all(&spdy::open(&openings)).await?;
        write.flush().await?;

        let mut reader = Reader::default();
        let replies = tokio::time::timeout(TAKEN, replies(&mut read, &mut reader, openings.len())).await;
        replies
            .map_err(|_| Lost(format!("the node did not take its streams within {} s", TAKEN.as_secs())))??;

        let (input, frames) = mpsc::channel(OUT);
        let (orders, control) = mpsc::channel(OUT);
        let shared = Arc::new(Shared::default());
        let frames = params.stdin.then_some(frames);
        let writer = tokio::spawn(carry(write, frames, control, Arc::clone(&shared)));
        let outputs = openings.iter().map(|opening| opening.stream).filter(|s| [OUTPUT, WORDS].contains(s));
        let streams = Self {
            socket: read,
            reader,
            orders,
            shared,
            liveness: Liveness::new(alive),
            asked: (1, 0),
            status: BytesMut::new(),
            outputs: outputs.collect(),
            writer,
        };
        Ok((streams, input))
    }

    /// The next bytes and their channel; none when the connection has ended in good order. May be dropped at any time.
    pub(super) async fn next(&mut self) -> std::result::Result<Option<(u8, Bytes)>, Lost> {
        loop {
            while let Some(event) = self.reader.next()? {
                if let Some(said) = self.take(event) {
                    return Ok(Some(said));
                }
            }
            let mut part = BytesMut::with_capacity(PART);
            tokio::select! {
                read = self.socket.read_buf(&mut part) => {
                    let end = match read {
                        Ok(0) => Ok(None),
                        Ok(_) => {
                            self.liveness.heard();
                            self.reader.push(part.freeze());
                            continue;
                        }
                        Err(error) => Err(error.into()),
                    };
                    // Whatever there is of it was said.
                    return self.ended().map_or(end, |said| Ok(Some(said)));
                }
                () = tokio::time::sleep(QUIET) => self.quiet().await?,
            }
        }
    }

    fn take(&mut self, event: Event) -> Option<(u8, Bytes)> {
        match event {
            Event::Data(OUTPUT, bytes) => return Some((STDOUT, bytes)),
            Event::Data(WORDS, bytes) => return Some((STDERR, bytes)),
            Event::Data(ERROR, bytes) => {
                self.status.extend_from_slice(&bytes);
                if serde_json::from_slice::<IgnoredAny>(&self.status).is_ok() {
                    return self.ended();
                }
            }
            Event::Fin(ERROR) | Event::Reset(ERROR) | Event::GoAway => return self.ended(),
            Event::Fin(stream) | Event::Reset(stream) => {
                self.outputs.retain(|output| *output != stream);
                if self.outputs.is_empty() || stream == INPUT {
                    self.shared.left.notify_one();
                }
            }
            Event::Ping(id) if id % 2 == 0 => drop(self.orders.try_send(spdy::ping(id))),
            // It answers also while the command leaves more than that unread, and at some time not any more.
            Event::Ping(id) if id == self.asked.0 && self.asked.1 <= FITS => self.liveness.took(self.asked.1),
            Event::Ping(_) | Event::Reply(_) | Event::Data(..) => {}
        }
        None
    }

    /// How the command ended, if that was said; once.
    fn ended(&mut self) -> Option<(u8, Bytes)> {
        let status = self.status.split().freeze();
        (!status.is_empty()).then_some((STATUS, status))
    }

    async fn quiet(&mut self) -> std::result::Result<(), Lost> {
        let written = self.shared.written.load(Ordering::Relaxed);
        let id = self.asked.0 + 2;
        // A full queue: the socket takes nothing, and what was sent before will be answered first.
        if self.orders.try_send(spdy::ping(id)).is_ok() {
            self.asked = (id, written);
        }
        self.liveness.quiet(written).await
    }

    /// Tells the size of its terminal.
    pub(super) async fn resize(&mut self, size: &[u8]) {
        let mut out = BytesMut::new();
        spdy::put(&mut out, TERMINAL, size);
        // A connection that is lost is told by `next`.
        let _ = self.orders.send(out.freeze()).await;
    }
}

impl<S> Drop for Streams<S> {
    fn drop(&mut self) {
        // Nobody waits for what the command would have read.
        self.writer.abort();
    }
}

/// Waits until each stream was taken: what comes before for it is lost. Nothing is said before that.
async fn replies<S: AsyncRead + Unpin>(
    socket: &mut S,
    reader: &mut Reader,
    mut missing: usize,
) -> std::result::Result<(), Lost> {
    loop {
        while let Some(event) = reader.next()? {
            match event {
                Event::Reply(_) => missing -= 1,
                Event::Ping(_) => {}
                _ => return Err(Lost("the node did not take its streams".to_owned())),
            }
            if missing == 0 {
                return Ok(());
            }
        }
        let mut part = BytesMut::with_capacity(PART);
        if socket.read_buf(&mut part).await? == 0 {
            return Err(Lost::in_the_middle());
        }
        reader.push(part.freeze());
    }
}

async fn carry<S>(
    mut socket: WriteHalf<S>,
    mut frames: Option<mpsc::Receiver<Bytes>>,
    mut orders: mpsc::Receiver<Bytes>,
    shared: Arc<Shared>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut out = BytesMut::new();
    let mut is_left = false;
    loop {
        out.clear();
        if is_left && frames.take().is_some() {
            spdy::put_end(&mut out, INPUT);
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
                        spdy::put(&mut out, INPUT, bytes.get(1..).unwrap_or_default());
                        frame = frames.as_mut().filter(|_| out.len() < BATCH).and_then(|frames| frames.try_recv().ok());
                    }
                    shared.written.fetch_add(out.len() as u64, Ordering::Relaxed);
                    if out.is_empty() {
                        frames = None;
                        spdy::put_end(&mut out, INPUT);
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
#[path = "streams_tests.rs"]
mod tests;
