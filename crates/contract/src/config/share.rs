//! How much of a file system is to stay free.

use std::fmt;

use super::units::Size;
use super::value::{Stored, Value};

/// File systems are made with an inode for so many bytes (`mke2fs`'s default): what a size means for them.
const BYTES_PER_INODE: u64 = 16 << 10;

/// A share of a file system, of its bytes and of its inodes alike: `15%`, or a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub enum Share {
    /// Of a hundred.
    Percent(u8),
    /// Of bytes; of inodes as many as a file system of this size has.
    Size(Size),
}

impl Share {
    /// Reads a percentage from 0 to 90, or a size.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_suffix('%') {
            Some(number) if number.bytes().all(|byte| byte.is_ascii_digit()) => {
                number.parse().ok().filter(|percent| *percent <= 90).map(Self::Percent)
            }
            Some(_) => None,
            None => Size::parse(text).map(Self::Size),
        }
    }

    /// Whether it is more than the other, on any file system.
    #[must_use]
    pub fn is_above(self, other: Self) -> bool {
        match (self, other) {
            (Self::Percent(ours), Self::Percent(theirs)) => ours > theirs,
            (Self::Size(ours), Self::Size(theirs)) => ours > theirs,
            _ => false,
        }
    }

    /// Of so many bytes in all.
    #[must_use]
    pub fn of_bytes(self, all: u64) -> u64 {
        match self {
            Self::Percent(percent) => part(all, percent),
            Self::Size(size) => size.bytes(),
        }
    }

    /// Of so many inodes in all; 0 where a file system counts none.
    #[must_use]
    pub fn of_inodes(self, all: u64) -> u64 {
        match self {
            Self::Percent(percent) => part(all, percent),
            Self::Size(size) => (size.bytes() / BYTES_PER_INODE).min(all),
        }
    }
}

fn part(all: u64, percent: u8) -> u64 {
    u64::try_from(u128::from(all) * u128::from(percent) / 100).unwrap_or(u64::MAX)
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Size(size) => size.fmt(f),
        }
    }
}

impl Stored for Share {
    fn to_value(&self) -> Value {
        Value::Text(self.to_string())
    }

    fn from_value(value: Value) -> Option<Self> {
        Self::parse(&String::from_value(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_and_shown() {
        for text in ["0%", "15%", "90%", "2Gi", "500M"] {
            assert_eq!(Share::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "%", "91%", "-1%", "+5%", "1.5%", "15", "much"] {
            assert_eq!(Share::parse(text), None, "{text}");
        }
    }

    #[test]
    fn of_a_file_system() {
        let gib = 1 << 30;
        assert_eq!(Share::Percent(15).of_bytes(100 * gib), 15 * gib);
        assert_eq!(Share::Percent(90).of_bytes(u64::MAX), u64::MAX / 10 * 9 + 4);
        assert_eq!(Share::Percent(5).of_inodes(0), 0);
        let size = Share::Size(Size::gib(1));
        assert_eq!((size.of_bytes(7), size.of_inodes(1 << 20)), (gib, 65_536));
        assert_eq!(size.of_inodes(100), 100, "never more than there are");
        assert!(Share::Percent(16).is_above(Share::Percent(15)) && !size.is_above(Share::Percent(0)));
    }
}
