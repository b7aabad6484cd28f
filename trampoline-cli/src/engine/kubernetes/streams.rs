//! The streams of a command in SPDY. The end of each output is told; how the command ended comes on a stream of its own, behind all of its
//! output; the connection may end without ending that.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kube::api::AttachParams;
use serde::de::IgnoredAny;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::channel::HalfClose;
use super::exec::{STATUS, STDERR, STDOUT};
use super::liveness::{Alive, Lost};
use super::spdy::{self, DATA, ERROR, Event, Opening};
use super::upgrade::Socket;
use super::wire::Wire;

/// Streams besides [`ERROR`] and its input, [`DATA`].
const OUTPUT: u32 = 5;
const WORDS: u32 = 7;
const TERMINAL: u32 = 9;
/// The container runtime is given as long to take them.
const TAKEN: Duration = Duration::from_secs(30);

/// What comes of a command.
pub(super) struct Streams<S = Socket> {
    wire: Wire<S>,
    /// How it ended, so far.
    status: BytesMut,
    /// Which have not ended.
    outputs: Vec<u32>,
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
    ) -> Result<(Self, mpsc::Sender<Bytes>), Lost> {
        let all = [
            (ERROR, "error", true),
            (DATA, "stdin", params.stdin),
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
        let (mut wire, input) = Wire::open(socket, &openings, HalfClose::Told, alive).await?;
        let taken = tokio::time::timeout(TAKEN, taken(&mut wire, openings.len())).await;
        taken
            .map_err(|_| Lost(format!("the node did not take its streams within {} s", TAKEN.as_secs())))??;
        let outputs = openings.iter().map(|opening| opening.stream).filter(|s| [OUTPUT, WORDS].contains(s));
        Ok((Self { wire, status: BytesMut::new(), outputs: outputs.collect() }, input))
    }

    /// The next bytes and their channel; none when the connection has ended in good order. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Result<Option<(u8, Bytes)>, Lost> {
        loop {
            let event = match self.wire.event().await {
                Ok(Some(event)) => event,
                // Whatever there is of it was said.
                Ok(None) => return Ok(self.ended()),
                Err(lost) => return self.ended().map_or(Err(lost), |said| Ok(Some(said))),
            };
            if let Some(said) = self.take(event) {
                return Ok(Some(said));
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
                if self.outputs.is_empty() || stream == DATA {
                    self.wire.leave();
                }
            }
            Event::Ping(_) | Event::Reply(_) | Event::Data(..) => {}
        }
        None
    }

    /// How the command ended, if that was said; once.
    fn ended(&mut self) -> Option<(u8, Bytes)> {
        let status = self.status.split().freeze();
        (!status.is_empty()).then_some((STATUS, status))
    }

    /// Tells the size of its terminal.
    pub(super) async fn resize(&mut self, size: &[u8]) {
        let mut out = BytesMut::new();
        spdy::put(&mut out, TERMINAL, size);
        self.wire.send(out.freeze()).await;
    }
}

/// Waits until each stream was taken: what comes before for it is lost. Nothing is said before that.
async fn taken<S>(wire: &mut Wire<S>, mut missing: usize) -> Result<(), Lost>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    while missing > 0 {
        match wire.event().await? {
            Some(Event::Reply(_)) => missing -= 1,
            Some(_) => return Err(Lost("the node did not take its streams".to_owned())),
            None => return Err(Lost::in_the_middle()),
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "streams_tests.rs"]
mod tests;
