//! What real daemons said, byte for byte: the same conversation is held with the recording. `recorded/VERSION.{said,asked}` hold
//! both sides. To record another version, start its daemon on a store with one file in it that is a root, and run the
//! ignored test with its socket, the file's store path and a name.

use std::fs;
use std::io::{self, Cursor, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use worker_protocol::{Connection, Error, GcAction, Message, PathInfo, Result};

/// Everything that is used, once.
#[derive(Debug, Default)]
struct Told {
    version: String,
    minor: u64,
    trusted: Option<bool>,
    paths: Vec<String>,
    info: Option<PathInfo>,
    dead: u64,
    lines: Vec<String>,
    refusal: String,
    live: Vec<String>,
}

fn converse(stream: impl Read + Write, root: &str) -> Result<Told> {
    let mut connection = Connection::open(stream)?;
    let hello = connection.hello();
    let mut told = Told {
        version: hello.nix_version.clone(),
        minor: hello.minor,
        trusted: hello.trusted,
        ..Told::default()
    };
    connection.set_verbosity(3)?;
    connection.all_valid_paths(|path| {
        told.paths.push(path.to_owned());
        Ok(())
    })?;
    told.info = connection.path_info(root)?;
    connection.add_temp_root(root)?;
    let mut lines = Vec::new();
    let mut log = |message| {
        if let Message::Line(text) | Message::Start { text, .. } = message {
            lines.push(text);
        }
    };
    told.dead = connection.collect_garbage(&GcAction::ReturnDead, &mut log, |_| {})?.paths;
    let delete = GcAction::DeleteSpecific(vec![root.to_owned()]);
    match connection.collect_garbage(&delete, &mut log, |_| {}) {
        Err(Error::Daemon(error)) => told.refusal = error.message,
        other => drop(other?),
    }
    connection.collect_garbage(&GcAction::ReturnLive, &mut log, |path| told.live.push(path.to_owned()))?;
    connection.optimise(&mut log)?;
    told.lines = lines;
    Ok(told)
}

/// Says what was recorded, and keeps what it is asked.
struct Replay {
    said: Cursor<Vec<u8>>,
    asked: Vec<u8>,
}

impl Replay {
    fn new(said: &[u8]) -> Self {
        Self { said: Cursor::new(said.to_vec()), asked: Vec::new() }
    }
}

impl Read for &mut Replay {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.said.read(buffer)
    }
}

impl Write for &mut Replay {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name)
}

/// Version, minor version that is spoken, its trust in root, the store path.
const RECORDED: [(&str, u64, Option<bool>, &str); 2] = [
    ("2.8.0", 34, None, "/tmp/recorded/nix/store/gqb5m4c9hrr51ah4lkzp6mr8dipjg9kc-greeting"),
    ("2.26.3", 35, Some(true), "/nix/store/qgbgpf97c1f9ynh9bcfqrim7i18gggns-greeting"),
];

#[test]
fn what_was_recorded_is_understood() {
    for (version, minor, trusted, root) in RECORDED {
        let said = fs::read(file(&format!("{version}.said"))).expect("it is in the repository");
        let mut replay = Replay::new(&said);
        let told = converse(&mut replay, root).expect("the whole conversation");
        assert_eq!((told.version.as_str(), told.minor, told.trusted), (version, minor, trusted));
        assert_eq!(told.paths, [root]);
        assert_eq!(told.live, [root]);
        let info = told.info.expect("it is valid");
        assert_eq!((info.nar_size, info.references), (120, 0));
        assert_eq!(told.dead, 0);
        assert!(told.lines.iter().any(|l| l.contains("finding garbage collector roots")), "{:?}", told.lines);
        assert!(told.refusal.contains("alive"), "{}", told.refusal);
        assert_eq!(replay.said.position(), said.len() as u64, "all of it was read");
        let asked = fs::read(file(&format!("{version}.asked"))).expect("it is in the repository");
        assert!(replay.asked == asked, "we ask otherwise than we did");
    }
}

#[test]
fn cut_anywhere_it_is_an_error() {
    for (version, _, _, root) in RECORDED {
        let said = fs::read(file(&format!("{version}.said"))).expect("it is in the repository");
        for cut in 0..said.len() {
            let result = converse(&mut Replay::new(&said[..cut]), root);
            assert!(matches!(result, Err(Error::Io(_))), "{version} cut at {cut}: {result:?}");
        }
    }
}

#[test]
fn a_flipped_byte_is_survived() {
    for (version, _, _, root) in RECORDED {
        let said = fs::read(file(&format!("{version}.said"))).expect("it is in the repository");
        for at in 0..said.len() {
            for bit in [0x01, 0x80, 0xff] {
                let mut broken = said.clone();
                broken[at] ^= bit;
                // Whatever it means now: an answer or an error, no panic and no endless loop.
                let _ = converse(&mut Replay::new(&broken), root);
            }
        }
    }
}

/// Keeps both sides.
struct Recorder {
    stream: UnixStream,
    said: Vec<u8>,
    asked: Vec<u8>,
}

impl Read for &mut Recorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.stream.read(buffer)?;
        self.said.extend_from_slice(&buffer[..n]);
        Ok(n)
    }
}

impl Write for &mut Recorder {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.asked.extend_from_slice(bytes);
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

#[test]
#[ignore = "records: RECORD_SOCKET, RECORD_ROOT and RECORD_AS say what"]
fn record() {
    let var = |name| std::env::var(name).expect("RECORD_SOCKET, RECORD_ROOT, RECORD_AS");
    let stream = UnixStream::connect(var("RECORD_SOCKET")).expect("a daemon listens there");
    let mut recorder = Recorder { stream, said: Vec::new(), asked: Vec::new() };
    let told = converse(&mut recorder, &var("RECORD_ROOT")).expect("the whole conversation");
    println!("{told:#?}");
    let name = var("RECORD_AS");
    fs::write(file(&format!("{name}.said")), recorder.said).expect("writable");
    fs::write(file(&format!("{name}.asked")), recorder.asked).expect("writable");
}
