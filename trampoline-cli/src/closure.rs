//! Store paths of this machine with all that they refer to, on their way into the builder's store: the two daemons' protocol
//! at both ends, and signatures made in between, so that nothing of this machine's store is written.

mod peer;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use contract::exit::Exit;
use worker_protocol::{Connection, Frames, Message, ValidPath};

use crate::error::{CliError, Result};
use crate::signing::{self, Key};
use crate::ui::Step;

pub(crate) use peer::Peer;

/// Between two moves of the progress.
const SHOWN: Duration = Duration::from_millis(200);
/// Warnings and errors; each path that is added would be told otherwise.
const WARNINGS: u64 = 1;

/// What the store at this end has: a path, then all that it refers to.
pub(crate) struct Closure {
    /// Each behind all that it refers to.
    paths: Vec<ValidPath>,
}

/// How this machine came to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Its name follows from its content: there is nothing to vouch for.
    Content,
    /// It was built here, or signed by somebody whom this machine trusts.
    Known,
    /// From elsewhere, unsigned.
    Unknown,
}

impl Origin {
    fn of(path: &ValidPath, trusted: &[String]) -> Self {
        if !path.content_address.is_empty() {
            return Self::Content;
        }
        if path.ultimate || is_signed(path, trusted) { Self::Known } else { Self::Unknown }
    }
}

/// Whether one of these public keys has signed it.
fn is_signed<S: AsRef<str>>(path: &ValidPath, keys: &[S]) -> bool {
    let Some(text) = path.fingerprint() else { return false };
    path.signatures.iter().any(|made| keys.iter().any(|key| signing::verifies(key.as_ref(), &text, made)))
}

impl Closure {
    /// Walks it. The error names the path that is not there.
    pub(crate) fn of(local: &mut Peer, roots: &[String]) -> Result<Self> {
        let mut found: HashMap<String, ValidPath> = HashMap::new();
        let mut open: Vec<String> = roots.to_vec();
        while let Some(name) = open.pop() {
            if found.contains_key(&name) {
                continue;
            }
            let path = local.ask(|store| store.valid_path(&name))?.ok_or_else(|| {
                CliError::new(Exit::Usage, format!("{name} is not in this machine's store"))
                    .hint("`--from` copies a path of the builder's store to here")
            })?;
            open.extend(path.references.iter().filter(|name| !found.contains_key(*name)).cloned());
            found.insert(name, path);
        }
        Ok(Self { paths: in_order(roots, found) })
    }

    /// Forgets what the other end has.
    pub(crate) fn without_valid(&mut self, remote: &mut Peer) -> Result<()> {
        let names: Vec<&str> = self.paths.iter().map(|path| path.path.as_str()).collect();
        let there = remote.ask(|store| store.valid_of(names.iter().copied()))?;
        let there: HashSet<String> = there.into_iter().collect();
        self.paths.retain(|path| !there.contains(&path.path));
        Ok(())
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// Bytes of their archives.
    pub(crate) fn bytes(&self) -> u64 {
        self.paths.iter().map(|path| path.nar_size).sum()
    }

    /// Those that come from elsewhere and that none of these keys has signed.
    pub(crate) fn unknown(&self, trusted: &[String]) -> Vec<&str> {
        let unknown = self.paths.iter().filter(|path| Origin::of(path, trusted) == Origin::Unknown);
        unknown.map(|path| path.path.as_str()).collect()
    }

    /// The first that the builder takes only with one more signature.
    pub(crate) fn needs_signature<S: AsRef<str>>(&self, taken: &[S]) -> Option<&str> {
        let needs = |path: &&ValidPath| path.content_address.is_empty() && !is_signed(path, taken);
        self.paths.iter().find(needs).map(|path| path.path.as_str())
    }

    /// Signs what its content does not name.
    pub(crate) fn sign(&mut self, key: &Key) -> Result<()> {
        for path in self.paths.iter_mut().filter(|path| path.content_address.is_empty()) {
            let text = path.fingerprint().ok_or_else(|| {
                CliError::new(Exit::Internal, format!("nix gives {} a hash that is none", path.path))
            })?;
            path.signatures.push(key.sign(&text));
        }
        Ok(())
    }

    /// Sends all of it in one stream, and returns when the other end has taken it.
    pub(crate) fn send(&self, local: &mut Peer, remote: &mut Peer, step: &mut Step) -> Result<()> {
        let (done, broken, total) = (AtomicU64::new(0), AtomicBool::new(false), self.bytes());
        remote.ask(|store| store.set_verbosity(WARNINGS))?;
        remote.ask(Connection::begin_adding)?;
        let to = Outgoing { to: remote.writer()?, broken: &broken };
        let (sent, (taken, warnings)) = thread::scope(|scope| {
            let (over, wait) = channel::<()>();
            let (done, counted) = (&done, &done);
            let sending = scope.spawn(move || {
                let _over = over;
                self.stream(local, to, done)
            });
            // Both ends speak at once; who only speaks fills the other's pipe, and waits for ever.
            let listening = scope.spawn(move || hear(remote));
            while wait.recv_timeout(SHOWN) == Err(RecvTimeoutError::Timeout) {
                step.progress(counted.load(Ordering::Relaxed), total);
            }
            (joined(sending), joined(listening))
        });
        warnings.iter().for_each(|line| step.print(line.trim_end()));
        // Why it takes no more, the other end says itself.
        if broken.load(Ordering::Relaxed) { taken.and(sent) } else { sent.and(taken) }
    }

    /// Ends the stream also where it cannot go on: nothing of a half-sent path arrives.
    fn stream(&self, local: &mut Peer, to: impl Write, done: &AtomicU64) -> Result<()> {
        let mut frames = Frames::new(to, self.paths.len() as u64).map_err(broke)?;
        let sent = self.paths.iter().try_for_each(|path| {
            frames.path(path).map_err(broke)?;
            let length = local.ask(|store| store.nar_from_path(&path.path, &mut frames))?;
            done.fetch_add(length, Ordering::Relaxed);
            if length == path.nar_size {
                return Ok(());
            }
            let hint = format!("`nix-store --verify-path {}` says more", path.path);
            let changed = format!("{} has other content than when it was registered", path.path);
            Err(CliError::new(Exit::ChildFailed, changed).hint(hint))
        });
        let ended = frames.finish().map_err(broke);
        sent.and(ended)
    }
}

/// What goes to the other end, and whether it is gone.
struct Outgoing<'a> {
    to: File,
    broken: &'a AtomicBool,
}

impl Write for Outgoing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.to.write(bytes).inspect_err(|_| self.broken.store(true, Ordering::Relaxed))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn broke(error: io::Error) -> CliError {
    CliError::new(Exit::ChildFailed, format!("the connection to the builder broke: {error}"))
}

/// Whether all was taken, and what was said meanwhile.
fn hear(remote: &mut Peer) -> (Result<()>, Vec<String>) {
    let mut said = Vec::new();
    let mut keep = |message| {
        if let Message::Line(line) = message {
            said.push(line);
        }
    };
    (remote.ask(|store| store.added(&mut keep)), said)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Each behind all that it refers to; in the order of the roots otherwise.
fn in_order(roots: &[String], mut found: HashMap<String, ValidPath>) -> Vec<ValidPath> {
    let mut paths = Vec::with_capacity(found.len());
    // Pushed once to be opened and once more to be closed behind what it refers to.
    let mut stack: Vec<(String, Option<ValidPath>)> =
        roots.iter().rev().map(|root| (root.clone(), None)).collect();
    while let Some((name, opened)) = stack.pop() {
        if let Some(path) = opened {
            paths.push(path);
        } else if let Some(path) = found.remove(&name) {
            let references = path.references.clone();
            stack.push((name, Some(path)));
            stack.extend(references.into_iter().rev().map(|name| (name, None)));
        }
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str, references: &[&str]) -> (String, ValidPath) {
        let references = references.iter().map(ToString::to_string).collect();
        (name.to_owned(), ValidPath { path: name.to_owned(), references, ..ValidPath::default() })
    }

    #[test]
    fn each_path_comes_behind_what_it_refers_to() {
        let found = HashMap::from([
            path("a", &["a", "b", "c"]),
            path("b", &["c", "d"]),
            path("c", &["d"]),
            path("d", &["d"]),
            path("e", &[]),
        ]);
        let order = in_order(&["a".into(), "e".into(), "a".into()], found);
        let names: Vec<&str> = order.iter().map(|path| path.path.as_str()).collect();
        assert_eq!(names, ["d", "c", "b", "a", "e"]);
    }

    #[test]
    fn who_vouches_for_a_path() {
        let hash = "00".repeat(32);
        let bare = ValidPath { nar_hash: hash, ..path("/nix/store/x", &[]).1 };
        let key = "k:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=".to_owned();
        let of = |path: &ValidPath| Origin::of(path, std::slice::from_ref(&key));
        assert_eq!(of(&bare), Origin::Unknown);
        assert_eq!(of(&ValidPath { signatures: vec!["k:AAAA".into()], ..bare.clone() }), Origin::Unknown);
        assert_eq!(of(&ValidPath { ultimate: true, ..bare.clone() }), Origin::Known);
        assert_eq!(of(&ValidPath { content_address: "text:x".into(), ..bare }), Origin::Content);
    }
}
