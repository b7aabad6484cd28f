use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;
use crate::engine::kubernetes::channel::frame;
use crate::engine::kubernetes::liveness::always;

fn control(kind: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0x80, 3, 0, kind, 0, 0, 0, length], payload].concat()
}

fn data(stream: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("short");
    [&[0, 0, 0, stream, flags, 0, 0, length], payload].concat()
}

/// A command whose streams the server has taken, and that server.
async fn command(tty: bool) -> (Streams<DuplexStream>, mpsc::Sender<Bytes>, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let params = AttachParams { stdin: true, stdout: true, stderr: !tty, tty, ..AttachParams::default() };
    let taken = if tty { [1, 3, 5, 9] } else { [1, 3, 5, 7] };
    for stream in taken {
        // What a reply says is compressed, and nothing that is not known.
        theirs.write_all(&control(2, &[0, 0, 0, stream, 0x62, 0x60])).await.expect("fits");
    }
    let (streams, input) = Streams::open(ours, &params, always()).await.expect("they were taken");
    for stream in taken {
        let mut head = [0; 12];
        theirs.read_exact(&mut head).await.expect("a stream");
        assert_eq!((head[3], head[11]), (1, stream), "opened in order");
        let mut rest = vec![0; usize::from(head[7]) - 4];
        theirs.read_exact(&mut rest).await.expect("its headers");
    }
    (streams, input, theirs)
}

#[tokio::test]
async fn a_command_says_how_it_ended_behind_all_of_its_output() {
    let (mut streams, _input, mut theirs) = command(false).await;
    let status = br#"{"status":"Failure","reason":"NonZeroExitCode"}"#;
    let (first, second) = status.split_at(7);
    let sent = [
        data(5, 0, b"hi"),
        data(7, 1, b"err"),
        data(1, 0, first),
        data(5, 1, b"!"),
        data(1, 0, second),
        control(7, &[0; 8]),
    ];
    theirs.write_all(&sent.concat()).await.expect("fits");
    drop(theirs);
    let said = |channel, text: &'static [u8]| Ok(Some((channel, Bytes::from_static(text))));
    assert_eq!(streams.next().await, said(STDOUT, b"hi"));
    assert_eq!(streams.next().await, said(STDERR, b"err"));
    assert_eq!(streams.next().await, said(STDOUT, b"!"));
    assert_eq!(streams.next().await, said(STATUS, status));
    assert_eq!(streams.next().await, Ok(None));
}

#[tokio::test]
async fn words_that_are_no_json_are_told_at_the_end() {
    for end in [data(1, 1, b""), control(3, &[0, 0, 0, 1, 0, 0, 0, 5]), control(7, &[0; 8]), Vec::new()] {
        let (mut streams, _input, mut theirs) = command(false).await;
        theirs.write_all(&data(1, 0, b"no such container")).await.expect("fits");
        theirs.write_all(&end).await.expect("fits");
        drop(theirs);
        let words = Bytes::from_static(b"no such container");
        assert_eq!(streams.next().await, Ok(Some((STATUS, words))));
    }
    let (mut streams, _input, theirs) = command(false).await;
    drop(theirs);
    assert_eq!(streams.next().await, Ok(None), "it is not known how it ended");
}

#[tokio::test]
async fn input_and_its_end_and_the_size_of_a_terminal() {
    let (mut streams, input, mut theirs) = command(true).await;
    streams.resize(b"{}").await;
    let mut sent = [0; 10];
    theirs.read_exact(&mut sent).await.expect("a size");
    assert_eq!(sent[..], data(9, 0, b"{}"));
    input.send(frame(0, b"ab")).await.expect("is taken");
    drop(input);
    let mut sent = [0; 18];
    theirs.read_exact(&mut sent).await.expect("the input");
    assert_eq!(sent[..], [data(3, 0, b"ab"), data(3, 1, b"")].concat());
}

#[tokio::test]
async fn nothing_is_sent_once_nobody_can_read_it() {
    let (mut streams, input, mut theirs) = command(false).await;
    theirs.write_all(&[data(5, 1, b""), data(7, 1, b"")].concat()).await.expect("fits");
    let next = tokio::spawn(async move { streams.next().await });
    input.closed().await;
    let mut sent = [0; 8];
    theirs.read_exact(&mut sent).await.expect("the end of the input");
    assert_eq!(sent[..], data(3, 1, b""));
    theirs.write_all(&data(1, 0, br#"{"status":"Success"}"#)).await.expect("fits");
    assert!(matches!(next.await.expect("ends"), Ok(Some((STATUS, _)))));
}

/// As an input without end does, whose command has ended.
#[tokio::test]
async fn a_sender_hears_that_nobody_can_read_it_also_while_nobody_does() {
    let (mut streams, input, mut theirs) = command(false).await;
    let feed = input.clone();
    let fed = tokio::spawn(async move { while feed.send(frame(0, &[7; 200])).await.is_ok() {} });
    let next = tokio::spawn(async move { streams.next().await });
    // Until what is written fills all there is between us: each has had its turn, and nothing has moved.
    let mut stuck = 0;
    while stuck < 100 {
        tokio::task::yield_now().await;
        stuck = if input.capacity() == 0 { stuck + 1 } else { 0 };
    }
    theirs.write_all(&[data(5, 1, b""), data(7, 1, b"")].concat()).await.expect("fits");
    tokio::time::timeout(Duration::from_secs(10), fed).await.expect("it hears of it").expect("ends");
    let frame = data(3, 0, &[7; 200]);
    let mut sent = vec![0; frame.len()];
    loop {
        theirs.read_exact(&mut sent[..8]).await.expect("a frame");
        if sent[..8] == data(3, 1, b"") {
            break;
        }
        theirs.read_exact(&mut sent[8..]).await.expect("the rest of it");
        assert_eq!(sent, frame);
    }
    theirs.write_all(&data(1, 0, br#"{"status":"Success"}"#)).await.expect("fits");
    assert!(matches!(next.await.expect("ends"), Ok(Some((STATUS, _)))));
}

#[tokio::test]
async fn streams_that_are_not_taken_are_told() {
    let (ours, mut theirs) = tokio::io::duplex(1 << 20);
    let params = AttachParams { stdin: true, stdout: true, stderr: true, ..AttachParams::default() };
    theirs.write_all(&control(3, &[0, 0, 0, 1, 0, 0, 0, 3])).await.expect("fits");
    assert!(Streams::open(ours, &params, always()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_took_all_and_says_nothing_is_gone() {
    let (mut streams, input, mut theirs) = command(false).await;
    drop(input);
    let next = tokio::spawn(async move { streams.next().await });
    let mut heard = Vec::new();
    let mut part = [0; 64];
    // It answers each ping, until it does not.
    let mut answered = 0;
    while let Ok(n) = theirs.read(&mut part).await {
        if n == 0 {
            break;
        }
        heard.extend_from_slice(&part[..n]);
        if answered < 5 && heard.len() >= 12 && heard[heard.len() - 12..][..4] == [0x80, 3, 0, 6] {
            let ping = heard.split_off(heard.len() - 12);
            theirs.write_all(&ping).await.expect("fits");
            answered += 1;
        }
    }
    assert_eq!(answered, 5);
    let Err(Lost(why)) = next.await.expect("ends") else { panic!("it is gone") };
    assert!(why.contains("dropped the connection"), "{why}");
}
