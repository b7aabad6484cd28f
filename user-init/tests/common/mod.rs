//! What the tests share. Each test file uses a part of it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "each test file is a crate of its own")]

pub mod agent_process;
pub mod tree;

use std::io::{BufRead, BufReader, Cursor, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use contract::job::PushAnswer;
use contract::tree::Frame;
use sha2::{Digest, Sha256};
use tree::Tree;

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub const BOOT: &str = "a-boot";

/// One push in this process; the last answer, or the error's whole text.
pub fn push(projects: &Path, tree: &Tree) -> Result<PushAnswer, String> {
    push_with(projects, "p", tree, BOOT, |_, files| tree.frames(files)).1
}

/// A push in which the client answers what is asked for in each round by what `send` makes of it, and leaves where that is
/// nothing. Returns what was asked for, too.
pub fn push_with(
    projects: &Path,
    project: &str,
    tree: &Tree,
    boot: &str,
    mut send: impl FnMut(usize, &[u32]) -> Vec<u8> + Send,
) -> (Vec<Vec<u32>>, Result<PushAnswer, String>) {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let beginning = tree.beginning(project);
    std::thread::scope(|scope| {
        let client = scope.spawn(move || {
            let (mut asked, mut last) = (Vec::new(), None);
            let answers = BufReader::new(ours.try_clone().unwrap());
            // Who refuses does not read to the end.
            let _ = ours.write_all(&beginning);
            for line in answers.lines().map_while(Result::ok) {
                match serde_json::from_str(&line).unwrap() {
                    PushAnswer::Send { files, .. } => {
                        let bytes = send(asked.len(), &files);
                        let whole = bytes.ends_with(&Frame::End.encode());
                        let _ = ours.write_all(&bytes);
                        if !whole {
                            ours.shutdown(std::net::Shutdown::Write).unwrap();
                        }
                        asked.push(files);
                    }
                    done => last = Some(done),
                }
            }
            (asked, last)
        });
        let mut output = theirs.try_clone().unwrap();
        let received =
            user_init::project::receive(projects, boot, &mut BufReader::new(&theirs), &mut output, |_| {});
        theirs.shutdown(std::net::Shutdown::Both).unwrap();
        let (asked, last) = client.join().unwrap();
        (asked, received.map(|_| last.unwrap()).map_err(|e| agent::status::chain(&e)))
    })
}

/// A push whose every byte is known beforehand.
pub fn push_bytes(projects: &Path, bytes: &[u8]) -> Result<PushAnswer, String> {
    let mut output = Vec::new();
    user_init::project::receive(projects, BOOT, &mut Cursor::new(bytes), &mut output, |_| {})
        .map_err(|e| agent::status::chain(&e))?;
    let text = String::from_utf8(output).unwrap();
    Ok(serde_json::from_str(text.lines().last().unwrap()).unwrap())
}

/// Every path below `root` with what it is, sorted: two trees are the same if these are.
pub fn listing(root: &Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt;
    fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().to_owned();
            let (mode, time) = (meta.mode() & 0o7777, meta.mtime());
            if meta.is_symlink() {
                found.push(format!("{name:?} -> {:?} {time}", std::fs::read_link(&path).unwrap()));
            } else if meta.is_dir() {
                found.push(format!("{name:?}/ {mode:o} {time}"));
                walk(root, &path, found);
            } else {
                let hash = &sha256(&std::fs::read(&path).unwrap())[..12];
                found.push(format!("{name:?} {mode:o} {time} {hash}"));
            }
        }
    }
    let mut found = Vec::new();
    walk(root, root, &mut found);
    found.sort();
    found
}
