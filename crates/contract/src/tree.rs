//! A tree on its way into the builder: a manifest that says what it holds, and the content of those files that the
//! builder lacks. Pure: both sides bring their own files and hashes.
//!
//! A file is known by its *id*, that of git's object for its content: the hash of `blob LENGTH`, a zero byte and the content.
//! 40 hex digits are SHA-1, 64 are SHA-256; a manifest may hold both. Whoever writes a file hashes it and compares, so that a
//! tree is what its manifest says whichever way the content came.

use std::collections::HashSet;

/// Every file's, link's and folder's time: 1980-01-01, the earliest that zip files can hold (1970 breaks builds that make
/// some). It does not depend on when a tree was pushed.
pub const MTIME: i64 = 315_532_800;
/// Longest path, as Linux's `PATH_MAX`: nobody could use a longer one.
pub const PATH_MAX: usize = 4096;
/// Longest name of a folder or file, as Linux's `NAME_MAX`.
pub const NAME_MAX: usize = 255;
/// Largest window of what is sent as zstd, as a power of two: what a receiver needs of memory for it.
pub const WINDOW_LOG: u32 = 23;
/// Bytes of a [`Frame`].
pub const FRAME: usize = 12;

/// What stands at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A file.
    File {
        /// Mode 0755 instead of 0644.
        executable: bool,
        /// See the module.
        id: String,
    },
    /// A symbolic link and where it leads.
    Link {
        /// Any bytes but zero.
        target: Vec<u8>,
    },
    /// A folder in which nothing is. The others are made for what is in them.
    Folder,
}

/// A path, relative to the tree's root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Parts with one `/` between them; any bytes but zero.
    pub path: Vec<u8>,
    /// What stands there.
    pub kind: Kind,
}

/// Why a manifest is not taken. A path in it is hostile or broken; nothing has been made yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not what [`encode`] writes.
    #[error("it cannot be read: {0}")]
    Malformed(&'static str),
    /// Absolute, with `..`, or a name that no file can have.
    #[error("the entry {path:?} {why}")]
    Path {
        /// The path, as far as it can be shown.
        path: String,
        /// Completes the sentence.
        why: &'static str,
    },
}

/// `FILE-ID<tab>PATH<zero>` for each file; links have their target and a zero behind that.
#[must_use]
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * 96);
    for entry in entries {
        let (mode, id): (&[u8], &str) = match &entry.kind {
            Kind::File { executable: false, id } => (b"file ", id),
            Kind::File { executable: true, id } => (b"exec ", id),
            Kind::Link { .. } => (b"link", ""),
            Kind::Folder => (b"folder", ""),
        };
        for part in [mode, id.as_bytes(), b"\t", &entry.path, b"\0"] {
            bytes.extend_from_slice(part);
        }
        if let Kind::Link { target } = &entry.kind {
            bytes.extend_from_slice(target);
            bytes.push(0);
        }
    }
    bytes
}

/// Reads what [`encode`] wrote, or somebody else made up.
///
/// # Errors
/// Unless it can be made below an empty folder without leaving it: paths are relative, without `.` and `..`, each stands
/// once, in ascending order, and none goes through a file or link.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, Refused> {
    let mut entries: Vec<Entry> = Vec::new();
    let mut fields = match bytes.strip_suffix(b"\0") {
        Some(bytes) => bytes.split(|byte| *byte == 0),
        None if bytes.is_empty() => return Ok(entries),
        None => return Err(Refused::Malformed("its end is missing")),
    };
    while let Some(field) = fields.next() {
        let tab = field
            .iter()
            .position(|byte| *byte == b'\t')
            .ok_or(Refused::Malformed("a line without a path"))?;
        let (what, path) = (&field[..tab], &field[tab + 1..]);
        check_path(path)?;
        let refused = |why| refused(path, why);
        let kind = match what {
            b"folder" => Kind::Folder,
            b"link" => match fields.next() {
                Some(target) if !target.is_empty() && target.len() < PATH_MAX => {
                    Kind::Link { target: target.to_vec() }
                }
                _ => return Err(refused("is a link that leads nowhere")),
            },
            _ => {
                let executable = what.starts_with(b"exec ");
                let id = what.strip_prefix(b"exec ").or(what.strip_prefix(b"file ")).unwrap_or_default();
                let hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
                if !matches!(id.len(), 40 | 64) || !id.iter().all(hex) {
                    return Err(refused("is of a kind that is not taken"));
                }
                Kind::File { executable, id: String::from_utf8_lossy(id).into_owned() }
            }
        };
        if entries.last().is_some_and(|last| last.path.as_slice() >= path) {
            return Err(refused("stands twice, or not in its place"));
        }
        entries.push(Entry { path: path.to_vec(), kind });
    }
    check_folders(&entries)?;
    Ok(entries)
}

fn refused(path: &[u8], why: &'static str) -> Refused {
    Refused::Path { path: String::from_utf8_lossy(path).chars().take(200).collect(), why }
}

fn check_path(path: &[u8]) -> Result<(), Refused> {
    if path.len() >= PATH_MAX {
        return Err(refused(path, "has a name that no file can have"));
    }
    if path.starts_with(b"/") {
        return Err(refused(path, "has an absolute name"));
    }
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b".." => return Err(refused(path, "has `..` in its name")),
            b"" | b"." => return Err(refused(path, "has a name that no file can have")),
            part if part.len() > NAME_MAX => return Err(refused(path, "has a name that no file can have")),
            _ => {}
        }
    }
    Ok(())
}

/// Nothing is below what is no folder.
fn check_folders(entries: &[Entry]) -> Result<(), Refused> {
    let ends: HashSet<&[u8]> = entries.iter().map(|entry| entry.path.as_slice()).collect();
    match entries.iter().find(|entry| folders(&entry.path).any(|folder| ends.contains(folder))) {
        Some(entry) => Err(refused(&entry.path, "would be written through what is no folder")),
        None => Ok(()),
    }
}

/// The folders that hold a path, the outermost first.
pub fn folders(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| &path[..at])
}

/// Stands before each file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame {
    /// So many bytes follow, the content of the entry with this index.
    File {
        /// In the manifest.
        index: u32,
        /// Bytes.
        length: u64,
    },
    /// All that was asked for has been sent.
    End,
}

impl Frame {
    /// As it travels: index and length, little-endian.
    #[must_use]
    pub fn encode(self) -> [u8; FRAME] {
        let (index, length) = match self {
            Self::File { index, length } => (index, length),
            Self::End => (u32::MAX, 0),
        };
        let mut bytes = [0; FRAME];
        bytes[..4].copy_from_slice(&index.to_le_bytes());
        bytes[4..].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// What [`Self::encode`] wrote.
    #[must_use]
    pub fn parse(bytes: [u8; FRAME]) -> Self {
        let [a, b, c, d, length @ ..] = bytes;
        match (u32::from_le_bytes([a, b, c, d]), u64::from_le_bytes(length)) {
            (u32::MAX, _) => Self::End,
            (index, length) => Self::File { index, length },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";

    fn file(path: &[u8]) -> Entry {
        Entry { path: path.to_vec(), kind: Kind::File { executable: path.ends_with(b"x"), id: ID.into() } }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.into(), kind: Kind::Link { target: target.into() } }
    }

    #[test]
    fn what_is_written_is_read() {
        let entries = vec![
            file(b" two  spaces\tand a tab\n"),
            file(b"a-b"),
            file(b"a/b/x"),
            Entry { path: b"empty".to_vec(), kind: Kind::Folder },
            link("link", "../../anywhere\n"),
            file(b"\xff\xfe"),
        ];
        assert_eq!(parse(&encode(&entries)).unwrap(), entries);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn what_leaves_the_tree_or_cannot_be_is_refused() {
        let long = [b'n'; 256];
        let deep = b"d/".repeat(2100);
        let cases: [(&[Entry], &str); 16] = [
            (&[file(b"/etc/passwd")], "absolute"),
            (&[file(b"../x")], "`..`"),
            (&[file(b"a/../../x")], "`..`"),
            (&[file(b"a/..")], "`..`"),
            (&[file(b"")], "no file can have"),
            (&[file(b"a//b")], "no file can have"),
            (&[file(b"./a")], "no file can have"),
            (&[file(b"a/")], "no file can have"),
            (&[file(&long)], "no file can have"),
            (&[file(&deep)], "no file can have"),
            (&[file(b"a"), file(b"a")], "twice"),
            (&[file(b"b"), file(b"a")], "twice"),
            (&[link("l", "/outside"), file(b"l/x")], "through"),
            // In the order of bytes, another name stands between them.
            (&[link("l", ".."), file(b"l-x"), file(b"l/deep/x")], "through"),
            (&[file(b"f"), link("f/l", "x")], "through"),
            (&[link("l", "")], "nowhere"),
        ];
        for (entries, expected) in cases {
            let error = parse(&encode(entries)).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} has not {expected}");
        }
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for bytes in [
            b"file".as_slice(),
            b"\0",
            b"file \tx\0",
            b"file e69de29\tx\0",
            b"file E69DE29BB2D1D6434B8B29AE775AD8C2E48C5391\tx\0",
            b"device 1\tx\0",
            b"link\tx\0",
        ] {
            assert!(parse(bytes).is_err(), "{:?}", String::from_utf8_lossy(bytes));
        }
        let whole = encode(&[file(b"a"), link("b", "c")]);
        for end in 1..whole.len() {
            // Cut between two entries it is one; its hash stands in the header.
            assert!(parse(&whole[..end]).is_err() || whole[..end] == encode(&[file(b"a")]), "{end}");
        }
    }

    #[test]
    fn frames() {
        for frame in
            [Frame::File { index: 7, length: 1 << 40 }, Frame::File { index: 0, length: 0 }, Frame::End]
        {
            assert_eq!(Frame::parse(frame.encode()), frame);
        }
    }
}
