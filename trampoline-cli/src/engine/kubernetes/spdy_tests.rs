use super::*;

/// A frame as a server would send it.
fn server(first: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = first.to_be_bytes().to_vec();
    out.extend_from_slice(&length(flags, payload.len()).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

fn control_frame(kind: u16, payload: &[u8]) -> Vec<u8> {
    server(CONTROL | VERSION << 16 | u32::from(kind), 0, payload)
}

/// All that comes of these bytes, in pieces of so many.
fn events(bytes: &[u8], piece: usize) -> io::Result<Vec<Event>> {
    let mut reader = Reader::default();
    let mut events = Vec::new();
    for piece in bytes.chunks(piece) {
        reader.push(Bytes::copy_from_slice(piece));
        while let Some(event) = reader.next()? {
            match (events.last_mut(), event) {
                // Bytes come as they come.
                (Some(Event::Data(last, before)), Event::Data(stream, bytes)) if *last == stream => {
                    *before = [&before[..], &bytes[..]].concat().into();
                }
                (_, event) => events.push(event),
            }
        }
    }
    Ok(events)
}

#[test]
fn frames_need_not_come_in_one_piece() {
    let mut sent = Vec::new();
    // Replies, compressed: what they say is known.
    sent.extend(control_frame(2, &[0, 0, 0, 1, 0x78, 0xbb, 1, 2, 3, 4, 5, 6, 7]));
    sent.extend(control_frame(2, &[0, 0, 0, 3, 0x62, 0x60]));
    sent.extend(server(DATA, 0, b"SSH-2.0-"));
    sent.extend(control_frame(PING, &[0, 0, 0, 2]));
    sent.extend(server(DATA, 0, b""));
    sent.extend(server(ERROR, FIN, b"refused"));
    // Settings, and a window that nobody keeps to.
    sent.extend(control_frame(4, &[0; 12]));
    sent.extend(control_frame(9, &[0; 8]));
    sent.extend(control_frame(RST_STREAM, &[0, 0, 0, 3, 0, 0, 0, 5]));
    sent.extend(server(DATA, FIN, b"end"));
    sent.extend(control_frame(GOAWAY, &[0; 8]));
    let data = |stream, text: &'static [u8]| Event::Data(stream, Bytes::from_static(text));
    let expected = [
        Event::Reply(ERROR),
        Event::Reply(DATA),
        data(DATA, b"SSH-2.0-"),
        Event::Ping(2),
        data(ERROR, b"refused"),
        Event::Fin(ERROR),
        Event::Reset(DATA),
        data(DATA, b"end"),
        Event::Fin(DATA),
        Event::GoAway,
    ];
    for piece in [1, 2, 3, 7, 8, 9, 64, sent.len()] {
        assert_eq!(events(&sent, piece).expect("is SPDY"), expected, "in pieces of {piece}");
    }
}

#[test]
fn what_is_no_spdy_is_told() {
    for wrong in [
        server(CONTROL | 2 << 16 | 6, 0, &[0; 4]),
        control_frame(PING, &[0; 8]),
        control_frame(RST_STREAM, &[0; 4]),
        control_frame(SYN_REPLY, &[0; 2]),
    ] {
        assert_eq!(events(&wrong, 64).expect_err("refused").kind(), io::ErrorKind::InvalidData);
    }
}

/// Go's reader takes the two blocks for one stream of zlib's without a dictionary; byte for byte what it read.
#[test]
fn both_streams_are_opened() {
    let frames = open(&port("2222"));
    let block = |kind: &str| {
        let mut text = vec![0, 0, 0, 3];
        for word in ["streamtype", kind, "port", "2222", "requestid", "0"] {
            text.extend_from_slice(&[0, 0, 0, u8::try_from(word.len()).expect("short")]);
            text.extend_from_slice(word.as_bytes());
        }
        let length = u8::try_from(text.len()).expect("short");
        [&[0, length, 0, !length, 0xff], &text[..], &[0, 0, 0, 0xff, 0xff]].concat()
    };
    let mut expected = Vec::new();
    for (stream, flags, block) in [(1, 1, [&[0x78, 1], &block("error")[..]].concat()), (3, 0, block("data"))]
    {
        expected.extend_from_slice(&[
            0x80,
            3,
            0,
            1,
            flags,
            0,
            0,
            u8::try_from(10 + block.len()).expect("short"),
        ]);
        expected.extend_from_slice(&[0, 0, 0, stream, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&block);
    }
    assert_eq!(frames, expected);
    assert_eq!(data(b"ab")[..], [0, 0, 0, 3, 0, 0, 0, 2, b'a', b'b']);
    assert_eq!(ping(7)[..], [0x80, 3, 0, 6, 0, 0, 0, 4, 0, 0, 0, 7]);
}
