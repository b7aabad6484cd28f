//! What the client and the agents agree on: configuration, places, the files
//! through which they speak to each other, and exit codes.
//!
//! Pure: no I/O, no threads, not async. Whoever reads a file hands its text in.

pub mod base64;
pub mod cluster;
pub mod config;
pub mod control;
pub mod damage;
pub mod exit;
pub mod handshake;
pub mod hold;
pub mod image;
pub mod in_use;
pub mod job;
pub mod keys;
pub mod places;
pub mod resources;
pub mod room;
pub mod roots;
pub mod session;
pub mod tidy;
pub mod tree;

/// Lower-case hexadecimal, as digests and git's ids are written.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn two_digits_a_byte() {
        assert_eq!(super::hex(&[0x00, 0x0f, 0xa5, 0xff]), "000fa5ff");
        assert_eq!(super::hex(&[]), "");
    }
}
