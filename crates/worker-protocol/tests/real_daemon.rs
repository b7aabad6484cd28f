//! Against the machine's own nix-daemon on a scratch store.

mod common;

use std::fs;
use std::io::Write;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;

use common::Daemon;
use worker_protocol::{
    BuildMode, Connection, Derivation, Error, Frames, GcAction, Message, OUR_MINOR, ValidPath, handshake,
};

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.socket()).expect("it listens");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).expect("a socket");
    stream
}

#[test]
fn it_greets_and_says_its_version() {
    let daemon = Daemon::start();
    let hello = handshake(&mut connect(&daemon)).unwrap();
    let version = daemon.nix_store(&["--version"]);
    assert!(version.ends_with(&hello.nix_version), "{version} is not {}", hello.nix_version);
    assert!(hello.minor <= OUR_MINOR);
    // Daemons before 1.35 do not say whom they trust.
    assert_eq!(hello.trusted, (hello.minor >= 35).then_some(true));
}

#[test]
fn all_paths_and_their_sizes() {
    let daemon = Daemon::start();
    let mut added = vec![daemon.add("a", b"first"), daemon.add("b", &[0; 100_000])];
    added.sort();
    let (mut names, mut infos) =
        (Connection::open(connect(&daemon)).unwrap(), Connection::open(connect(&daemon)).unwrap());
    let (mut seen, mut bytes) = (Vec::new(), 0);
    let count = names.all_valid_paths(|path| {
        bytes += infos.path_info(path)?.unwrap().nar_size;
        seen.push(path.to_owned());
        Ok(())
    });
    assert_eq!(count.unwrap(), 2);
    seen.sort();
    assert_eq!(seen, added);
    let said: u64 = daemon
        .nix_store(&["-q", "--size", &added[0], &added[1]])
        .lines()
        .map(|l| l.parse::<u64>().unwrap())
        .sum();
    assert_eq!(bytes, said);
    let absent = added[0].replace("/store/", "/store/0").replacen("-", "", 1);
    assert!(matches!(infos.path_info(&absent), Ok(None) | Err(Error::Daemon(_))), "{absent}");
}

#[test]
fn a_refusal_does_not_end_the_conversation() {
    let daemon = Daemon::start();
    let path = daemon.add("a", b"first");
    daemon.root(&path);
    let mut connection = Connection::open(connect(&daemon)).unwrap();
    let delete = GcAction::DeleteSpecific(vec![path.clone()]);
    let refused = connection.collect_garbage(&delete, &mut |_| {}, |_| {});
    let Err(Error::Daemon(error)) = refused else { panic!("{refused:?}") };
    assert!(error.message.contains("alive"), "{error}");
    assert!(connection.path_info(&path).unwrap().is_some());
}

#[test]
fn a_collection_spares_roots_and_tells_what_went() {
    let daemon = Daemon::start();
    let (kept, dead, held) = (daemon.add("kept", b"1"), daemon.add("dead", b"2"), daemon.add("held", b"3"));
    daemon.root(&kept);
    let mut holder = Connection::open(connect(&daemon)).unwrap();
    holder.add_temp_root(&held).unwrap();

    let mut connection = Connection::open(connect(&daemon)).unwrap();
    connection.set_verbosity(3).unwrap();
    let mut told = Vec::new();
    let found = connection.collect_garbage(&GcAction::ReturnDead, &mut |_| {}, |p| told.push(p.to_owned()));
    assert_eq!((found.unwrap().paths, told.as_slice()), (1, &[dead.clone()][..]));
    assert!(Path::new(&dead).exists(), "a dry run must not delete");

    let mut lines = Vec::new();
    let mut log = |m| {
        if let Message::Line(line) = m {
            lines.push(line)
        }
    };
    told.clear();
    let delete = GcAction::DeleteDead { max_freed: None };
    let outcome = connection.collect_garbage(&delete, &mut log, |p| told.push(p.to_owned())).unwrap();
    assert!(outcome.bytes_freed > 0 && told.contains(&dead), "{outcome:?} {told:?}");
    assert!(lines.iter().any(|l| l.contains(&dead)), "{lines:?}");
    assert!(!Path::new(&dead).exists());
    assert!(Path::new(&kept).exists() && Path::new(&held).exists());

    // Its holder gone, the temporary root is none any more.
    drop(holder);
    let specific = GcAction::DeleteSpecific(vec![held.clone()]);
    wait_for_temp_root(&mut connection, &specific);
    assert!(!Path::new(&held).exists());
    let live = GcAction::ReturnLive;
    assert_eq!(connection.collect_garbage(&live, &mut |_| {}, |_| {}).unwrap().paths, 1);
}

/// The daemon's process for a closed connection takes a moment to end.
fn wait_for_temp_root(connection: &mut Connection<UnixStream>, delete: &GcAction) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while let Err(error) = connection.collect_garbage(delete, &mut |_| {}, |_| {}) {
        assert!(matches!(error, Error::Daemon(_)), "{error}");
        assert!(std::time::Instant::now() < deadline, "{error}");
        std::thread::yield_now();
    }
}

#[test]
fn a_bound_on_what_is_freed() {
    let daemon = Daemon::start();
    for name in ["a", "b", "c", "d"] {
        daemon.add(name, &[name.as_bytes()[0]; 50_000]);
    }
    let mut connection = Connection::open(connect(&daemon)).unwrap();
    let some = GcAction::DeleteDead { max_freed: Some(60_000) };
    let outcome = connection.collect_garbage(&some, &mut |_| {}, |_| {}).unwrap();
    assert!((60_000..200_000).contains(&outcome.bytes_freed), "{outcome:?}");
    assert!(connection.all_valid_paths(|_| Ok(())).unwrap() >= 1);
}

#[test]
fn optimising_links_equal_files() {
    use std::os::unix::fs::MetadataExt;
    let daemon = Daemon::start();
    let (a, b) = (daemon.add("a", &[7; 9000]), daemon.add("b", &[7; 9000]));
    let mut connection = Connection::open(connect(&daemon)).unwrap();
    connection.optimise(&mut |_| {}).unwrap();
    assert_eq!(fs::metadata(a).unwrap().ino(), fs::metadata(b).unwrap().ino());
}

#[test]
fn shutting_the_stream_down_ends_a_conversation() {
    let daemon = Daemon::start();
    daemon.add("a", b"first");
    let stream = connect(&daemon);
    let other_end = stream.try_clone().unwrap();
    let mut connection = Connection::open(stream).unwrap();
    other_end.shutdown(Shutdown::Both).unwrap();
    assert!(matches!(connection.all_valid_paths(|_| Ok(())), Err(Error::Io(_))));
    assert!(matches!(connection.path_info("/x"), Err(Error::Io(_))), "nothing can follow");
}

#[test]
fn paths_leave_a_store_and_come_back() {
    let daemon = Daemon::start();
    let (small, large) = (daemon.add("small", b"1"), daemon.add("large", &[7; 300_000]));
    let mut connection = Connection::open(connect(&daemon)).unwrap();
    let mut kept = Vec::new();
    for path in [&small, &large] {
        let info = connection.valid_path(path).unwrap().unwrap();
        let mut archive = Vec::new();
        assert_eq!(connection.nar_from_path(path, &mut archive).unwrap(), info.nar_size);
        assert_eq!(archive.len() as u64, info.nar_size);
        assert!(!info.content_address.is_empty() && info.fingerprint().is_some(), "{info:?}");
        kept.push((info, archive));
    }
    let both = [small.as_str(), large.as_str()];
    let delete = GcAction::DeleteDead { max_freed: None };
    connection.collect_garbage(&delete, &mut |_| {}, |_| {}).unwrap();
    assert_eq!(connection.valid_of(both.into_iter()).unwrap(), [""; 0]);
    assert_eq!(connection.valid_path(&small).unwrap(), None);

    let stream = connect(&daemon);
    let out = stream.try_clone().unwrap();
    let mut adding = Connection::open(stream).unwrap();
    adding.begin_adding().unwrap();
    let mut frames = Frames::new(out.try_clone().unwrap(), 2).unwrap();
    for (info, archive) in &kept {
        frames.path(info).unwrap();
        frames.write_all(archive).unwrap();
    }
    frames.finish().unwrap();
    adding.added(&mut |_| {}).unwrap();
    let mut there = adding.valid_of(both.into_iter()).unwrap();
    there.sort();
    let mut all = both.map(str::to_owned);
    all.sort();
    assert_eq!(there, all);
    assert_eq!(fs::read(&large).unwrap(), [7; 300_000]);

    // One whose bytes are not what is said of them is refused, and the conversation goes on.
    let (info, archive) = &kept[0];
    let forged = ValidPath { path: small.replace("-small", "-other"), ..info.clone() };
    adding.begin_adding().unwrap();
    let mut frames = Frames::new(out, 1).unwrap();
    frames.path(&forged).unwrap();
    let mut other = archive.clone();
    let last = other.iter().rposition(|byte| *byte == b'1').unwrap();
    other[last] = b'2';
    frames.write_all(&other).unwrap();
    frames.finish().unwrap();
    assert!(matches!(adding.added(&mut |_| {}), Err(Error::Daemon(_))));
    assert_eq!(adding.valid_path(&forged.path).unwrap(), None);
}

#[test]
fn a_derivation_without_a_file_is_built() {
    let daemon = Daemon::start();
    let store = daemon.add("a", b"first");
    let store = Path::new(&store).parent().expect("a store path is in a store").display().to_string();
    let (out, drv) = (format!("{store}/{0:0>32}-trial", ""), format!("{store}/{0:0>32}-trial.drv", ""));
    let environment =
        |manifest| [("allowSubstitutes", ""), ("derivations", ""), ("out", out.as_str()), manifest];
    let mut connection = Connection::open(connect(&daemon)).unwrap();
    let mut build = |manifest, mode| {
        let trial = Derivation {
            path: &drv,
            outputs: &[("out", &out)],
            inputs: &[],
            system: "builtin",
            builder: "builtin:buildenv",
            arguments: &[],
            environment: &environment(manifest),
        };
        connection.build(&trial, mode).unwrap()
    };
    let failed = build(("other", ""), BuildMode::Normal);
    assert!(!failed.succeeded() && failed.message.contains("manifest"), "{failed:?}");
    let manifest = ("manifest", "/dev/null");
    let built = build(manifest, BuildMode::Normal);
    assert!(built.was_built(), "{built:?}");
    assert!(Path::new(&out).join("manifest.nix").is_symlink());
    let again = build(manifest, BuildMode::Normal);
    assert!(again.succeeded() && !again.was_built(), "{again:?}");
    let checked = build(manifest, BuildMode::Check);
    assert!(checked.was_built(), "{checked:?}");
    assert!(connection.path_info(&out).unwrap().is_some());
}
