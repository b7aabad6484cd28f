//! Frames as a kubelet sent them, byte for byte.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::liveness::{SILENT, always};
use super::*;
use crate::engine::kubernetes::stream::Input;

async fn pair(
    half_close: HalfClose,
    alive: Alive,
) -> (Incoming<DuplexStream>, mpsc::Sender<Bytes>, DuplexStream) {
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let socket = WebSocketStream::from_raw_socket(ours, Role::Client, None).await;
    let (incoming, input) = split(socket, half_close, alive);
    (incoming, input, theirs)
}

/// An unmasked binary message, as a server sends it.
fn message(payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x82, u8::try_from(payload.len()).expect("short")];
    frame.extend_from_slice(payload);
    frame
}

/// The next message of the client, without its mask.
async fn sent(theirs: &mut DuplexStream) -> (u8, Vec<u8>) {
    let mut head = [0; 6];
    theirs.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[1] & 0x80, 0x80, "clients mask");
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    theirs.read_exact(&mut payload).await.expect("its payload");
    payload.iter_mut().zip(head[2..].iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    (head[0], payload)
}

/// `echo hi; echo err >&2; exit 3`: an empty message on stdout, both outputs, the status, the close frame.
#[tokio::test]
async fn a_command() {
    let (mut incoming, _input, mut theirs) = pair(HalfClose::Told, always()).await;
    let status =
        br#"{"metadata":{},"status":"Failure","message":"command terminated","reason":"NonZeroExitCode"}"#;
    for payload in [&b"\x01"[..], b"\x01hi\n", b"\x02err\n", &[&[3], &status[..]].concat()] {
        theirs.write_all(&message(payload)).await.expect("fits");
    }
    theirs.write_all(&[0x88, 0x02, 0x03, 0xe8]).await.expect("fits");
    assert_eq!(incoming.next().await, Ok(Some((1, Bytes::from_static(b"hi\n")))));
    assert_eq!(incoming.next().await, Ok(Some((2, Bytes::from_static(b"err\n")))));
    assert_eq!(incoming.next().await, Ok(Some((3, Bytes::copy_from_slice(status)))));
    assert_eq!(incoming.next().await, Ok(None));
}

#[tokio::test]
async fn the_end_of_the_input_is_told() {
    let (_incoming, frames, mut theirs) = pair(HalfClose::Told, always()).await;
    let mut input = Input::new(frames);
    input.write_all(b"abc").await.expect("is taken");
    drop(input);
    assert_eq!(sent(&mut theirs).await, (0x82, b"\0abc".to_vec()));
    assert_eq!(sent(&mut theirs).await, (0x82, vec![CLOSE, 0]));
}

#[tokio::test]
async fn what_ends_in_the_middle_is_an_error() {
    for cut in [0, 1, 4] {
        let (mut incoming, _input, mut theirs) = pair(HalfClose::Told, always()).await;
        let whole = message(b"\x01hello");
        theirs.write_all(&whole[..cut]).await.expect("fits");
        drop(theirs);
        assert!(incoming.next().await.is_err(), "cut after {cut} bytes");
    }
}

/// Time passes by itself where everybody waits.
#[tokio::test(start_paused = true)]
async fn silence_is_asked_about_and_ends() {
    let (mut incoming, _input, mut theirs) = pair(HalfClose::Told, always()).await;
    let since = tokio::time::Instant::now();
    assert!(incoming.next().await.is_err(), "nobody answers");
    assert_eq!(since.elapsed(), SILENT);
    assert_eq!(sent(&mut theirs).await, (0x89, 0u64.to_be_bytes().to_vec()));

    let gone = || -> Alive { Box::new(|| Box::pin(async { Err(Lost("the pod was deleted".to_owned())) })) };
    let (mut incoming, _input, _theirs) = pair(HalfClose::Told, gone()).await;
    assert_eq!(incoming.next().await, Err(Lost("the pod was deleted".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_takes_no_input_is_waited_for() {
    let (mut incoming, input, _theirs) = pair(HalfClose::Told, always()).await;
    input.send(frame(0, b"not taken")).await.expect("is taken");
    let waited = tokio::time::timeout(SILENT * 10, incoming.next()).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn an_end_that_cannot_be_told_leaves_time_for_a_last_word() {
    let (mut incoming, input, mut theirs) = pair(HalfClose::Untold, always()).await;
    drop(input);
    let since = tokio::time::Instant::now();
    theirs.write_all(&message(b"\0bye")).await.expect("fits");
    assert_eq!(incoming.next().await, Ok(Some((0, Bytes::from_static(b"bye")))));
    assert_eq!(incoming.next().await, Ok(None));
    assert!(since.elapsed() >= LINGER && since.elapsed() < QUIET, "{:?}", since.elapsed());
}
