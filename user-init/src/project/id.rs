//! Git's id of a file's content. See [`contract::tree`].

use std::io::{self, Read};

use contract::hex;
use sha1::Sha1;
use sha2::{Digest, Sha256};

/// Under way.
pub(super) enum Hash {
    Sha1(Sha1),
    Sha256(Sha256),
}

impl Hash {
    /// As `id` was made, for content of that length.
    pub(super) fn like(id: &str, length: u64) -> Self {
        let mut hash = if id.len() == 40 { Self::Sha1(Sha1::new()) } else { Self::Sha256(Sha256::new()) };
        hash.update(format!("blob {length}\0").as_bytes());
        hash
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha1(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    pub(super) fn is(self, id: &str) -> bool {
        id == match self {
            Self::Sha1(hash) => hex(&hash.finalize()),
            Self::Sha256(hash) => hex(&hash.finalize()),
        }
    }
}

/// Whether what `from` holds has that id.
pub(super) fn is(from: &mut impl Read, length: u64, id: &str, buffer: &mut [u8]) -> io::Result<bool> {
    let mut hash = Hash::like(id, length);
    loop {
        match from.read(buffer)? {
            0 => return Ok(hash.is(id)),
            n => hash.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        // `printf 'what is up, doc?' | git hash-object --stdin`, in a repository of either format.
        for id in [
            "bd9dbf5aae1a3862dd1526723246b20206e5fc37",
            "7561bda2ad0a17be8fee9d1815a0896b80ebafddaf26cf30c228e9b320513033",
        ] {
            let of = |mut text: &[u8]| is(&mut text, 16, id, &mut [0; 5]).unwrap();
            assert!(of(b"what is up, doc?") && !of(b"what is up, doc!"), "{id}");
        }
    }
}
