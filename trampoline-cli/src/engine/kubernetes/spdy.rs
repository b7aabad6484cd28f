//! SPDY/3.1, as far as a forwarded port and a command need it: streams, opened by the client alone. Nothing compresses what we send, and what the server compresses, its headers, says nothing that we do not know.
//!
//! Both ends are Kubernetes' own (`moby/spdystream`): there is no flow control, and data for a stream that has not been replied to
//! is lost without a word.

use std::io;

use bytes::{BufMut, Bytes, BytesMut};

/// The stream of what is wrong, in words; the first of a client.
pub(super) const ERROR: u32 = 1;
/// That of a port's data, or of a command's input.
pub(super) const DATA: u32 = 3;
/// A frame's first word and its length.
const HEAD: usize = 8;
const CONTROL: u32 = 1 << 31;
const VERSION: u32 = 3;
const FIN: u8 = 1;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;
/// Payload of what we read of control frames, bytes.
const SMALL: usize = 8;
const WORD: usize = 4;

/// What a server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// Bytes of a stream, as they come.
    Data(u32, Bytes),
    /// It says nothing more on a stream.
    Fin(u32),
    /// It has given a stream up.
    Reset(u32),
    /// It wants the same back, or gives ours back.
    Ping(u32),
    /// It has taken a stream: from here on it may be written to.
    Reply(u32),
    /// It takes no more streams: all is over.
    GoAway,
}

/// A stream that a client opens; the first one has number 1, and each is odd and larger than the one before.
#[derive(Debug, Clone)]
pub(super) struct Opening<'a> {
    pub(super) stream: u32,
    /// The client says nothing on it.
    pub(super) is_silent: bool,
    pub(super) headers: Vec<(&'a str, &'a str)>,
}

/// Opens the streams of a connection.
pub(super) fn open(openings: &[Opening<'_>]) -> Bytes {
    let mut out = BytesMut::new();
    for (n, opening) in openings.iter().enumerate() {
        let block = headers(&opening.headers, n == 0);
        control(&mut out, SYN_STREAM, if opening.is_silent { FIN } else { 0 }, 10 + block.len());
        out.put_u32(opening.stream);
        // Belongs to no other; the highest priority.
        out.put_bytes(0, 6);
        out.put_slice(&block);
    }
    out.freeze()
}

/// Both streams to a port.
pub(super) fn port(port: &str) -> [Opening<'_>; 2] {
    let headers = |kind| vec![("streamtype", kind), ("port", port), ("requestid", "0")];
    [
        Opening { stream: ERROR, is_silent: true, headers: headers("error") },
        Opening { stream: DATA, is_silent: false, headers: headers("data") },
    ]
}

/// Bytes of the port.
pub(super) fn data(payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + payload.len());
    put(&mut out, DATA, payload);
    out.freeze()
}

/// Bytes of a stream, behind what is there.
pub(super) fn put(out: &mut BytesMut, stream: u32, payload: &[u8]) {
    out.put_u32(stream);
    out.put_u32(length(0, payload.len()));
    out.put_slice(payload);
}

/// The end of a stream, as far as it is ours.
pub(super) fn put_end(out: &mut BytesMut, stream: u32) {
    out.put_u32(stream);
    out.put_u32(length(FIN, 0));
}

/// A ping (a client's has an odd number), or the answer to one.
pub(super) fn ping(id: u32) -> Bytes {
    let mut out = BytesMut::with_capacity(HEAD + 4);
    control(&mut out, PING, 0, 4);
    out.put_u32(id);
    out.freeze()
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, payload: usize) {
    out.put_u32(CONTROL | VERSION << 16 | u32::from(kind));
    out.put_u32(length(flags, payload));
}

/// Flags share a word with the length, which has 24 bits.
fn length(flags: u8, payload: usize) -> u32 {
    u32::from(flags) << 24 | u32::try_from(payload).unwrap_or(u32::MAX) & 0xff_ffff
}

/// A header block in zlib's format: one stream of it for all blocks of a connection, so that only the first has its head. An empty
/// block behind each lets a decoder give out what it has (RFC 1951, 3.2.4: stored blocks).
fn headers(pairs: &[(&str, &str)], first: bool) -> BytesMut {
    let number = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
    let mut text = BytesMut::new();
    text.put_u32(number(pairs.len()));
    for word in pairs.iter().flat_map(|(name, value)| [name, value]) {
        text.put_u32(number(word.len()));
        text.put_slice(word.as_bytes());
    }
    let mut out = BytesMut::new();
    if first {
        out.put_slice(&[0x78, 0x01]);
    }
    for block in [&text[..], &[]] {
        let length = u16::try_from(block.len()).unwrap_or(u16::MAX);
        out.put_u8(0);
        out.put_u16_le(length);
        out.put_u16_le(!length);
        out.put_slice(block);
    }
    out
}

/// Takes apart what a server sends, in pieces that need not be its frames.
#[derive(Debug)]
pub(super) struct Reader {
    /// Not looked at yet.
    rest: Bytes,
    /// A frame's head, or a control frame's small payload, as far as it is there.
    part: BytesMut,
    state: State,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Head,
    Data { stream: u32, fin: bool, left: usize },
    Control { kind: u16, length: usize },
    Reply { left: usize },
    Skip { left: usize },
}

impl Default for Reader {
    fn default() -> Self {
        Self { rest: Bytes::new(), part: BytesMut::with_capacity(HEAD), state: State::Head }
    }
}

impl Reader {
    /// What came next. The last piece must have been taken apart.
    pub(super) fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.rest.is_empty());
        self.rest = bytes;
    }

    /// The next event of what was pushed.
    ///
    /// # Errors
    /// When it is no SPDY/3.
    pub(super) fn next(&mut self) -> io::Result<Option<Event>> {
        loop {
            match self.state {
                State::Head => {
                    let Some(head) = self.gather(HEAD) else { return Ok(None) };
                    self.state = begun(&head)?;
                }
                State::Data { stream, fin, left: 0 } => {
                    self.state = State::Head;
                    if fin {
                        return Ok(Some(Event::Fin(stream)));
                    }
                }
                State::Data { stream, fin, left } => {
                    let bytes = self.take(left);
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    self.state = State::Data { stream, fin, left: left - bytes.len() };
                    return Ok(Some(Event::Data(stream, bytes)));
                }
                State::Control { kind, length } => {
                    let Some(payload) = self.gather(length) else { return Ok(None) };
                    self.state = State::Head;
                    let first = word(&payload) & !CONTROL;
                    return Ok(Some(match kind {
                        RST_STREAM => Event::Reset(first),
                        PING => Event::Ping(word(&payload)),
                        _ => Event::GoAway,
                    }));
                }
                State::Reply { left } => {
                    let Some(stream) = self.gather(WORD) else { return Ok(None) };
                    self.state = State::Skip { left };
                    return Ok(Some(Event::Reply(word(&stream) & !CONTROL)));
                }
                State::Skip { left: 0 } => self.state = State::Head,
                State::Skip { left } => {
                    let skipped = self.take(left).len();
                    if skipped == 0 {
                        return Ok(None);
                    }
                    self.state = State::Skip { left: left - skipped };
                }
            }
        }
    }

    fn take(&mut self, most: usize) -> Bytes {
        self.rest.split_to(most.min(self.rest.len()))
    }

    /// So many bytes at once, when they are there.
    fn gather(&mut self, length: usize) -> Option<BytesMut> {
        let more = self.take(length - self.part.len());
        self.part.extend_from_slice(&more);
        (self.part.len() == length).then(|| self.part.split())
    }
}

fn word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |word| u32::from_be_bytes(*word))
}

/// What a frame's head says of the rest of it.
fn begun(head: &[u8]) -> io::Result<State> {
    let (first, second) = (word(head), word(&head[4..]));
    let left = (second & 0xff_ffff) as usize;
    let wrong =
        |what: &str| Err(io::Error::new(io::ErrorKind::InvalidData, format!("the API server {what}")));
    if first & CONTROL == 0 {
        let fin = (second >> 24) as u8 & FIN != 0;
        return Ok(State::Data { stream: first, fin, left });
    }
    if first >> 16 & 0x7fff != VERSION {
        return wrong("speaks no SPDY/3, though it has agreed to");
    }
    match (first & 0xffff) as u16 {
        PING if left != 4 => wrong("sent a ping that is none"),
        kind @ (RST_STREAM | GOAWAY) if left != SMALL => {
            wrong(&format!("sent a frame of type {kind} that is none"))
        }
        kind @ (RST_STREAM | PING | GOAWAY) => Ok(State::Control { kind, length: left }),
        SYN_REPLY if left < WORD => wrong("sent a reply that is none"),
        SYN_REPLY => Ok(State::Reply { left: left - WORD }),
        _ => Ok(State::Skip { left }),
    }
}

#[cfg(test)]
#[path = "spdy_tests.rs"]
mod tests;
