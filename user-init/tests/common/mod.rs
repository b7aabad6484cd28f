//! What the tests share. Each test file uses a part of it.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub, reason = "each test file is a crate of its own")]

pub mod agent_process;
pub mod tar;

use std::io::Cursor;
use std::path::Path;

use contract::job::{Encoding, PushAnswer, PushHeader};
use sha2::{Digest, Sha256};

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

pub fn header(project: &str, archive: &[u8]) -> PushHeader {
    PushHeader {
        project: project.into(),
        bytes: archive.len() as u64,
        sha256: sha256(archive),
        label: "main 1a2b3c4".into(),
        from: "me@here".into(),
        encoding: Encoding::Plain,
    }
}

/// Header line and archive, as the client sends them.
pub fn push_bytes(header: &PushHeader, archive: &[u8]) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(header).unwrap();
    bytes.push(b'\n');
    bytes.extend_from_slice(archive);
    bytes
}

pub const BOOT: &str = "a-boot";

/// One push in this process; the last answer, or the error's whole text.
pub fn push(projects: &Path, bytes: &[u8]) -> Result<PushAnswer, String> {
    push_in(projects, bytes, BOOT)
}

pub fn push_in(projects: &Path, bytes: &[u8], boot: &str) -> Result<PushAnswer, String> {
    let mut output = Vec::new();
    user_init::project::receive(projects, boot, &mut Cursor::new(bytes), &mut output, |_| {})
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
