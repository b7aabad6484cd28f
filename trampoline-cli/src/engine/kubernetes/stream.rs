//! A channel as a stream of bytes. See [`super::channel`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::sync::PollSender;

use super::channel::{FRAME, frame};

/// Messages on their way from the server to whoever reads: 1 MiB.
const IN: usize = 32;

/// What goes to the server.
pub(super) struct Input {
    frames: PollSender<Bytes>,
    /// Makes a message of a part.
    wrap: fn(&[u8]) -> Bytes,
}

impl Input {
    /// On channel 0.
    pub(super) fn new(frames: mpsc::Sender<Bytes>) -> Self {
        Self::wrapped(frames, |part| frame(0, part))
    }

    pub(super) fn wrapped(frames: mpsc::Sender<Bytes>, wrap: fn(&[u8]) -> Bytes) -> Self {
        Self { frames: PollSender::new(frames), wrap }
    }
}

fn gone<T>(_: T) -> io::Error {
    io::ErrorKind::BrokenPipe.into()
}

impl AsyncWrite for Input {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.frames.poll_reserve(cx)).map_err(gone)?;
        let part = &bytes[..bytes.len().min(FRAME)];
        if !part.is_empty() {
            let message = (self.wrap)(part);
            self.frames.send_item(message).map_err(gone)?;
        }
        Poll::Ready(Ok(part.len()))
    }

    /// The writer flushes whenever it has nothing else to do.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.frames.close();
        Poll::Ready(Ok(()))
    }
}

/// A channel of the server as a stream of bytes.
pub(super) struct Output {
    frames: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
    ended: bool,
}

/// Where an [`Output`] comes from. An empty part is its end; without one, it is an error.
pub(super) type Feed = mpsc::Sender<io::Result<Bytes>>;

impl Output {
    pub(super) fn new() -> (Feed, Self) {
        let (feed, frames) = mpsc::channel(IN);
        (feed, Self { frames, rest: Bytes::new(), ended: false })
    }

    /// Waits for the first bytes; false: there are none.
    pub(super) async fn first(&mut self) -> io::Result<bool> {
        let next = self.frames.recv().await;
        self.take(next).map(|()| !self.ended)
    }

    fn take(&mut self, next: Option<io::Result<Bytes>>) -> io::Result<()> {
        let unexpected = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was given up");
        self.rest = next.unwrap_or_else(|| Err(unexpected()))?;
        self.ended = self.rest.is_empty();
        Ok(())
    }
}

impl AsyncRead for Output {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() && !self.ended {
            let next = ready!(self.frames.poll_recv(cx));
            self.take(next)?;
        }
        let n = self.rest.len().min(buffer.remaining());
        buffer.put_slice(&self.rest.split_to(n));
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn an_output_without_its_end_is_an_error() {
        let (feed, mut output) = Output::new();
        feed.send(Ok(Bytes::from_static(b"half"))).await.expect("is taken");
        drop(feed);
        let mut bytes = Vec::new();
        let error = output.read_to_end(&mut bytes).await.expect_err("it was cut off");
        assert_eq!((error.kind(), &bytes[..]), (io::ErrorKind::UnexpectedEof, &b"half"[..]));

        let (feed, mut output) = Output::new();
        feed.send(Ok(Bytes::from_static(b"whole"))).await.expect("is taken");
        feed.send(Ok(Bytes::new())).await.expect("is taken");
        drop(feed);
        let mut bytes = Vec::new();
        output.read_to_end(&mut bytes).await.expect("it has ended");
        assert_eq!(bytes, b"whole");

        for (word, spoke) in [(&b"SSH-2.0"[..], true), (b"", false)] {
            let (feed, mut output) = Output::new();
            feed.send(Ok(Bytes::copy_from_slice(word))).await.expect("is taken");
            assert_eq!(output.first().await.ok(), Some(spoke), "an end is no word");
        }
    }
}
