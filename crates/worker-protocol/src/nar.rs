//! Archives of store paths (NAR), as far as finding their end takes: nothing tells how long one is.

use std::io::{self, Read, Write};

use crate::error::{Error, Result};
use crate::wire;

/// Words, names and targets of links; Linux allows 255 and 4095 bytes.
const MAX_WORD: u64 = 8192;
/// Folders in each other: a path has 4096 bytes.
const MAX_DEPTH: u32 = 4096;

/// Copies one archive and stops behind it. Returns its length. What is in it is the receiver's to check.
pub(crate) fn copy(from: &mut impl Read, to: &mut impl Write) -> Result<u64> {
    let mut word = Vec::new();
    let mut length = token(from, to, &mut word)?;
    if word != b"nix-archive-1" {
        return Err(Error::NotAnArchive);
    }
    let mut depth = 0_u32;
    loop {
        length += token(from, to, &mut word)?;
        match word.as_slice() {
            b"(" if depth < MAX_DEPTH => depth += 1,
            b")" if depth == 1 => return Ok(length),
            b")" if depth > 1 => depth -= 1,
            b"type" | b"regular" | b"symlink" | b"directory" | b"entry" | b"node" => {}
            // What follows may read like one of the words above.
            b"executable" | b"name" | b"target" => length += token(from, to, &mut word)?,
            b"contents" => length += contents(from, to)?,
            _ => return Err(Error::NotAnArchive),
        }
    }
}

fn token(from: &mut impl Read, to: &mut impl Write, word: &mut Vec<u8>) -> Result<u64> {
    wire::read_limited(from, "a word of an archive", MAX_WORD, word)?;
    let bytes = wire::Request::default().bytes_of(word);
    to.write_all(bytes.bytes())?;
    Ok(bytes.bytes().len() as u64)
}

/// A file's bytes, of any length, are never held as a whole.
fn contents(from: &mut impl Read, to: &mut impl Write) -> Result<u64> {
    let length = wire::read_u64(from)?;
    let padded = length.checked_next_multiple_of(8).ok_or(Error::NotAnArchive)?;
    to.write_all(&length.to_le_bytes())?;
    if io::copy(&mut from.take(padded), to)? != padded {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Ok(padded + 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;

    fn words(words: &[&str]) -> Vec<u8> {
        words.iter().fold(Request::default(), |request, word| request.str(word)).bytes().to_vec()
    }

    /// Names, targets and contents that read like the archive's own words.
    fn archive() -> Vec<u8> {
        words(&[
            "nix-archive-1",
            "(",
            "type",
            "directory", //
            "entry",
            "(",
            "name",
            ")",
            "node",
            "(",
            "type",
            "symlink",
            "target",
            "(",
            ")",
            ")", //
            "entry",
            "(",
            "name",
            "f",
            "node",
            "(",
            "type",
            "regular",
            "executable",
            "",
            "contents",
            ")",
            ")",
            ")", //
            ")",
        ])
    }

    #[test]
    fn its_end_is_found_whatever_it_holds() {
        let (archive, mut copied) = (archive(), Vec::new());
        let mut from = &[archive.as_slice(), b"more"].concat()[..];
        assert_eq!(copy(&mut from, &mut copied).unwrap(), archive.len() as u64);
        assert_eq!((copied, from), (archive, &b"more"[..]));
    }

    #[test]
    fn cut_anywhere_it_is_an_error() {
        let archive = archive();
        for cut in 0..archive.len() {
            assert!(copy(&mut &archive[..cut], &mut io::sink()).is_err(), "{cut}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        let deep = ["("; MAX_DEPTH as usize + 1];
        for bytes in [
            words(&["nix-archive-2"]),
            words(&["nix-archive-1", ")"]),
            words(&["nix-archive-1", "(", "what"]),
            words(&[&["nix-archive-1"][..], &deep].concat()),
            Request::default().str("nix-archive-1").str("contents").u64(u64::MAX).bytes().to_vec(),
        ] {
            assert!(matches!(copy(&mut &*bytes, &mut io::sink()), Err(Error::NotAnArchive)));
        }
    }
}
