//! Trees as a client sends them, and hostile ones.

use std::collections::HashSet;

use contract::job::PushHeader;
use contract::tree::{Entry, Frame, Kind, encode};
use sha1::{Digest, Sha1};

#[derive(Default, Clone)]
pub struct Tree(pub Vec<(Entry, Vec<u8>)>);

/// As `git hash-object` says.
pub fn id(content: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", content.len()));
    hash.update(content);
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

impl Tree {
    fn with(mut self, path: &[u8], kind: Kind, content: &[u8]) -> Self {
        self.0.push((Entry { path: path.to_vec(), kind }, content.to_vec()));
        self.0.sort_by(|a, b| a.0.path.cmp(&b.0.path));
        self
    }

    pub fn file(self, path: impl AsRef<[u8]>, content: impl AsRef<[u8]>) -> Self {
        let kind = Kind::File { executable: false, id: id(content.as_ref()) };
        self.with(path.as_ref(), kind, content.as_ref())
    }

    pub fn exec(self, path: &str, content: &str) -> Self {
        let kind = Kind::File { executable: true, id: id(content.as_bytes()) };
        self.with(path.as_bytes(), kind, content.as_bytes())
    }

    pub fn folder(self, path: &str) -> Self {
        self.with(path.as_bytes(), Kind::Folder, b"")
    }

    pub fn link(self, path: &str, target: &str) -> Self {
        self.with(path.as_bytes(), Kind::Link { target: target.into() }, b"")
    }

    /// Index of a path.
    pub fn index(&self, path: &str) -> u32 {
        let at = self.0.iter().position(|(entry, _)| entry.path == path.as_bytes());
        u32::try_from(at.expect("it is in the tree")).expect("a small tree")
    }

    pub fn content(&self, index: u32) -> &[u8] {
        &self.0[usize::try_from(index).expect("a small tree")].1
    }

    pub fn manifest(&self) -> Vec<u8> {
        encode(&self.0.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>())
    }

    pub fn header(&self, project: &str) -> PushHeader {
        let manifest = self.manifest();
        PushHeader {
            project: project.into(),
            manifest: manifest.len() as u64,
            sha256: super::sha256(&manifest),
            label: "main 1a2b3c4".into(),
            from: "me@here".into(),
            zstd: false,
        }
    }

    /// Header and manifest.
    pub fn beginning(&self, project: &str) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.header(project)).expect("it can be written");
        bytes.push(b'\n');
        bytes.extend(self.manifest());
        bytes
    }

    /// Frames of these files, and the end mark.
    pub fn frames(&self, files: &[u32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for &index in files {
            let content = self.content(index);
            bytes.extend(Frame::File { index, length: content.len() as u64 }.encode());
            bytes.extend(content);
        }
        bytes.extend(Frame::End.encode());
        bytes
    }

    /// What a builder asks for which has nothing of it.
    pub fn files(&self) -> Vec<u32> {
        let mut seen = HashSet::new();
        let first = self.0.iter().zip(0..).filter_map(|((entry, _), index)| match &entry.kind {
            Kind::File { id, .. } => seen.insert(id).then_some(index),
            _ => None,
        });
        first.collect()
    }

    /// All that such a builder reads.
    pub fn bytes(&self, project: &str) -> Vec<u8> {
        [self.beginning(project), self.frames(&self.files())].concat()
    }
}

/// A tree with a bit of everything that is allowed.
pub fn sample() -> Tree {
    Tree::default()
        .file("default.nix", "{ }")
        .exec("bin/run", "#!/bin/sh\n")
        .folder("empty/deep")
        .file("src/a b\nc", "odd name")
        .file(b"src/\xff\xfe".as_slice(), "not utf-8")
        .link("src/link", "../default.nix")
        .link("out", "/nowhere/outside")
        .file("src/nothing", "")
        .exec("src/twin", "{ }")
}
