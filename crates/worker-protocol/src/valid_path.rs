//! All that a store says of a path, as it travels with the path, and what a signature of it covers.

use std::io::Read;

use crate::error::Result;
use crate::wire::{self, Request};

/// Nix's digits: without e, o, u and t.
const BASE32: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// What a store says of a path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ValidPath {
    /// Its own name.
    pub path: String,
    /// The derivation that it was built from; empty where that is not known.
    pub deriver: String,
    /// SHA-256 of its archive, in hexadecimal.
    pub nar_hash: String,
    /// What it refers to, itself perhaps included.
    pub references: Vec<String>,
    /// Seconds since the epoch.
    pub registered: u64,
    /// Length of its archive.
    pub nar_size: u64,
    /// It was built by the store that says so.
    pub ultimate: bool,
    /// `NAME:BASE64` each.
    pub signatures: Vec<String>,
    /// Its name follows from its content; empty where it does not.
    pub content_address: String,
}

impl ValidPath {
    /// What a signature covers; `None`: its hash is none.
    #[must_use]
    pub fn fingerprint(&self) -> Option<String> {
        let hash = base32(&unhex(&self.nar_hash)?);
        let mut references: Vec<&str> = self.references.iter().map(String::as_str).collect();
        references.sort_unstable();
        references.dedup();
        Some(format!("1;{};sha256:{hash};{};{}", self.path, self.nar_size, references.join(",")))
    }

    /// The answer to a question about `path`.
    pub(crate) fn read(from: &mut impl Read, path: &str) -> Result<Self> {
        let mut buffer = Vec::new();
        let deriver = wire::read_str(from, "a deriver", &mut buffer)?.to_owned();
        let nar_hash = wire::read_str(from, "a hash", &mut buffer)?.to_owned();
        let references = wire::read_all(from, "a reference")?;
        let registered = wire::read_u64(from)?;
        let nar_size = wire::read_u64(from)?;
        let ultimate = wire::read_bool(from, "whether it was built here")?;
        let signatures = wire::read_all(from, "a signature")?;
        let content_address = wire::read_str(from, "a content address", &mut buffer)?.to_owned();
        Ok(Self {
            path: path.to_owned(),
            deriver,
            nar_hash,
            references,
            registered,
            nar_size,
            ultimate,
            signatures,
            content_address,
        })
    }

    /// As it goes before its archive. Nobody is told that it was built where it arrives.
    pub(crate) fn written(&self) -> Request {
        Request::default()
            .str(&self.path)
            .str(&self.deriver)
            .str(&self.nar_hash)
            .strs(self.references.iter().map(String::as_str))
            .u64(self.registered)
            .u64(self.nar_size)
            .u64(0)
            .strs(self.signatures.iter().map(String::as_str))
            .str(&self.content_address)
    }
}

/// The 32 bytes of a SHA-256.
fn unhex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    let mut bytes = [0; 32];
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// As Nix writes it: from the last digit to the first.
fn base32(bytes: &[u8; 32]) -> String {
    let digits = (bytes.len() * 8).div_ceil(5);
    let digit = |n: usize| {
        let (at, shift) = (n * 5 / 8, n * 5 % 8);
        let next = bytes.get(at + 1).copied().unwrap_or_default();
        let both = u16::from(bytes[at]) | u16::from(next) << 8;
        char::from(BASE32[usize::from(both >> shift) & 31])
    };
    (0..digits).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `nix hash to-base32` of SHA-256 of the empty text.
    #[test]
    fn hashes_are_written_as_nix_writes_them() {
        let empty = unhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855").unwrap();
        assert_eq!(base32(&empty), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
        assert_eq!(unhex("e3"), None);
        assert_eq!(unhex(&"g".repeat(64)), None);
    }

    #[test]
    fn what_is_signed_does_not_depend_on_the_order_of_references() {
        let path = |references: &[&str]| ValidPath {
            path: "/nix/store/a-x".into(),
            nar_hash: "00".repeat(32),
            nar_size: 7,
            references: references.iter().map(ToString::to_string).collect(),
            ..ValidPath::default()
        };
        let expected = format!("1;/nix/store/a-x;sha256:{};7;/nix/store/b,/nix/store/c", "0".repeat(52));
        assert_eq!(path(&["/nix/store/c", "/nix/store/b"]).fingerprint().as_deref(), Some(&*expected));
        assert_eq!(path(&["/nix/store/b", "/nix/store/c"]).fingerprint().as_deref(), Some(&*expected));
        assert_eq!(ValidPath::default().fingerprint(), None);
    }

    #[test]
    fn what_is_written_can_be_read() {
        let path = ValidPath {
            path: "/nix/store/a-x".into(),
            deriver: "/nix/store/d-x.drv".into(),
            nar_hash: "ab".repeat(32),
            references: vec!["/nix/store/a-x".into()],
            registered: 5,
            nar_size: 9,
            ultimate: false,
            signatures: vec!["k:c2ln".into()],
            content_address: String::new(),
        };
        let written = path.written();
        let mut from = written.bytes();
        let mut name = Vec::new();
        let name = wire::read_str(&mut from, "a path", &mut name).unwrap().to_owned();
        assert_eq!(ValidPath::read(&mut from, &name).unwrap(), path);
        assert!(from.is_empty());
    }
}
