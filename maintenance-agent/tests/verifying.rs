//! Reading the store of a real nix-daemon. The test plays daemon-init, which repairs.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../crates/worker-protocol/tests/common/mod.rs"]
mod common;

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use agent::control::listen;
use agent::paths::Paths;
use common::Daemon;
use contract::control::{Reply, Request};
use contract::damage::{Damaged, Fate, Found};
use contract::places::Container;
use maintenance_agent::cut::Cut;
use maintenance_agent::verify::{Extent, Read, read};

const PATHS: usize = 12;

struct Scene {
    run: tempfile::TempDir,
    daemon: Daemon,
    paths: Paths,
    all: Vec<String>,
}

impl Scene {
    fn new() -> Self {
        let run = tempfile::tempdir().unwrap();
        let daemon = Daemon::start();
        let paths = Paths { nix: daemon.nix().to_owned(), ..Paths::scratch(run.path()) };
        fs::create_dir_all(paths.run_dir(Container::Daemon)).unwrap();
        let mut all: Vec<String> =
            (0..PATHS).map(|n| daemon.add(&format!("path-{n}"), n.to_string().as_bytes())).collect();
        all.sort();
        Self { run, daemon, paths, all }
    }

    fn read(&self, cursor: &str, extent: Extent) -> Read {
        read(&self.paths, &Cut::default(), cursor, extent, &mut |_, _| {}).unwrap()
    }

    /// Says what is asked to be repaired, and that it was.
    fn daemon_init(&self) -> Receiver<String> {
        let listener = listen(&self.paths.daemon_control_socket(), 0o600).unwrap();
        listener.set_nonblocking(false).unwrap();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                let mut line = String::new();
                stream.read_line(&mut line).unwrap();
                let Request::Repair { path } = serde_json::from_str(&line).unwrap() else { panic!("{line}") };
                let what = "gone".to_owned();
                let damaged =
                    Damaged { path: path.clone(), at: 1, found: Found::Verify, what, fate: Fate::Removed };
                for reply in [Reply::Damaged(damaged), Reply::Done] {
                    let line = serde_json::to_string(&reply).unwrap();
                    writeln!(stream.get_mut(), "{line}").unwrap();
                }
                // The test may be over.
                if tell.send(path).is_err() {
                    return;
                }
            }
        });
        told
    }
}

fn damage(path: &str) {
    let path = Path::new(path);
    fs::set_permissions(path, Permissions::from_mode(0o644)).unwrap();
    let length = fs::metadata(path).unwrap().len();
    fs::write(path, vec![b'!'; usize::try_from(length).unwrap()]).unwrap();
}

#[test]
fn slices_follow_each_other_and_read_everything() {
    let scene = Scene::new();
    let (mut cursor, mut paths, mut slices) = (String::new(), 0, 0);
    loop {
        let read = scene.read(&cursor, Extent::Slice(400));
        assert!(!read.cut && read.found.damaged.is_empty(), "{read:?}");
        paths += read.found.paths;
        slices += 1;
        if read.cursor.is_empty() {
            break;
        }
        assert!(scene.all.contains(&read.cursor) && read.cursor > cursor);
        cursor = read.cursor;
    }
    assert_eq!(paths, PATHS as u64);
    assert!(slices > 2, "{slices}");
    assert_eq!(scene.read("", Extent::Whole).found.paths, PATHS as u64);
    drop(scene.run);
}

#[test]
fn what_is_damaged_is_told_and_nothing_else() {
    let scene = Scene::new();
    damage(&scene.all[3]);
    fs::remove_file(&scene.all[7]).unwrap();
    let asked = scene.daemon_init();
    let read = scene.read("", Extent::Whole);
    let found: Vec<&str> = read.found.damaged.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(found, [&scene.all[3], &scene.all[7]]);
    assert_eq!(asked.try_iter().count(), 2);
    assert_eq!(read.found.paths, PATHS as u64);
}

#[test]
fn work_ends_it_at_once() {
    let scene = Scene::new();
    let cut = Cut::default();
    let mut seen = 0;
    let read = read(&scene.paths, &cut, "", Extent::Slice(u64::MAX), &mut |paths, _| {
        seen = paths;
        if paths == 5 {
            cut.cut();
        }
    })
    .unwrap();
    assert!(read.cut, "{read:?}");
    // The one after is not read, or not to its end.
    assert_eq!((seen, read.cursor.as_str()), (5, scene.all[4].as_str()));
    drop(scene.daemon);
}
