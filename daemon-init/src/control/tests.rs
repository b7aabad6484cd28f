use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use agent::control::{self, ask};

use super::*;

const PATIENCE: Duration = Duration::from_secs(60);

struct Scene {
    _dir: tempfile::TempDir,
    paths: Paths,
    control: Control,
}

impl Scene {
    /// Ours is one of the ids that may ask where the tests are root's, or a user's of id 1000.
    fn new() -> Option<Self> {
        if !ASKERS.contains(&nix::unistd::geteuid().as_raw()) {
            eprintln!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::scratch(dir.path());
        std::fs::create_dir_all(paths.run_dir(contract::places::Container::Daemon)).unwrap();
        std::fs::create_dir_all(paths.nix.join("var/nix/gcroots/auto")).unwrap();
        let control = Control::open(&paths).unwrap();
        Some(Self { _dir: dir, paths, control })
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.paths.daemon_control_socket()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// As the supervisor's loop does, until `done`.
    fn serve(&mut self, done: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done() {
            assert!(Instant::now() < end, "no answer");
            self.control.hear(&Config::default());
            thread::yield_now();
        }
    }
}

fn line(stream: UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_question_is_answered_and_the_socket_goes_with_its_listener() {
    let Some(mut scene) = Scene::new() else { return };
    let socket = scene.paths.daemon_control_socket();
    thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&socket, &Request::Roots { sizes: false }, PATIENCE, |_| Ok(())));
        scene.serve(|| asked.is_finished());
        asked.join().unwrap().unwrap();
    });
    assert!(scene.control.waiting.is_empty() && scene.control.deadline().is_none());
    drop(scene.control);
    let after = ask(&socket, &Request::Roots { sizes: false }, PATIENCE, |_| Ok(()));
    assert!(matches!(after, Err(control::Error::NotServing)));
}

#[test]
fn one_that_says_nothing_keeps_no_other_waiting_and_is_given_up() {
    let Some(mut scene) = Scene::new() else { return };
    let silent = scene.connect();
    scene.control.hear(&Config::default());
    assert!(scene.control.deadline().is_some());
    let mut nonsense = scene.connect();
    nonsense.write_all(b"{\"ask\":\"more\"}\n").unwrap();
    // It is let in, and then heard.
    scene.control.hear(&Config::default());
    scene.control.hear(&Config::default());
    assert!(line(nonsense).contains("does not know what is asked for"));
    scene.control.waiting[0].until = Instant::now();
    scene.control.hear(&Config::default());
    assert!(line(silent).contains("no question came"));
    assert!(scene.control.waiting.is_empty());
}

#[test]
fn so_many_at_once_of_one_user_and_no_more() {
    let Some(mut scene) = Scene::new() else { return };
    let held: Vec<UnixStream> = (0..EACH).map(|_| scene.connect()).collect();
    scene.control.hear(&Config::default());
    let more = scene.connect();
    scene.control.hear(&Config::default());
    assert!(line(more).contains("ask again"));
    assert_eq!(scene.control.waiting.len(), EACH);
    drop(held);
    scene.control.hear(&Config::default());
    assert!(scene.control.waiting.is_empty());
    let _again = scene.connect();
    scene.control.hear(&Config::default());
    assert_eq!(scene.control.waiting.len(), 1);
}
