//! The two things that travel: 64-bit little-endian numbers, and bytes with their length before them, padded with zeros to
//! eight. Every length is checked before it is believed, and memory is taken as bytes arrive.

use std::io::{self, Read};

use crate::error::{Error, Result};

/// Bytes of one string. An error message with a long trace has some ten thousand.
pub(crate) const MAX_STRING: u64 = 1 << 20;
/// Elements of one list. The largest known stores hold some million paths.
pub(crate) const MAX_LIST: u64 = 1 << 24;

/// A number.
pub(crate) fn read_u64(from: &mut impl Read) -> Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

/// A yes or no.
pub(crate) fn read_bool(from: &mut impl Read, what: &'static str) -> Result<bool> {
    match read_u64(from)? {
        0 => Ok(false),
        1 => Ok(true),
        value => Err(Error::Unexpected { what, value }),
    }
}

/// The number of elements that follow.
pub(crate) fn read_count(from: &mut impl Read, what: &'static str, limit: u64) -> Result<u64> {
    let length = read_u64(from)?;
    if length > limit { Err(Error::TooLong { what, length, limit }) } else { Ok(length) }
}

/// Replaces the content of `into` by the bytes of a string.
pub(crate) fn read_bytes(from: &mut impl Read, what: &'static str, into: &mut Vec<u8>) -> Result<()> {
    read_limited(from, what, MAX_STRING, into)
}

/// The same of a string that has at most so many.
pub(crate) fn read_limited(
    from: &mut impl Read,
    what: &'static str,
    limit: u64,
    into: &mut Vec<u8>,
) -> Result<()> {
    let length = read_count(from, what, limit)?;
    into.clear();
    // Grows with what comes: a length alone costs us nothing.
    if from.take(length).read_to_end(into)? as u64 != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let padding = length.next_multiple_of(8) - length;
    let mut zeros = [0; 8];
    for byte in zeros.iter_mut().take(usize::try_from(padding).unwrap_or_default()) {
        from.read_exact(std::slice::from_mut(byte))?;
    }
    match u64::from_le_bytes(zeros) {
        0 => Ok(()),
        value => Err(Error::Unexpected { what: "padding", value }),
    }
}

/// Text that must be text.
pub(crate) fn read_str<'a>(
    from: &mut impl Read,
    what: &'static str,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a str> {
    read_bytes(from, what, buffer)?;
    std::str::from_utf8(buffer).map_err(|_| Error::NotText { what })
}

/// Text for a person: builders print what they like.
pub(crate) fn read_lossy(from: &mut impl Read, what: &'static str) -> Result<String> {
    let mut bytes = Vec::new();
    read_bytes(from, what, &mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

/// Texts, each handed over as it comes: a large store's paths need no memory here. Returns how many there were.
pub(crate) fn read_each(
    from: &mut impl Read,
    what: &'static str,
    mut each: impl FnMut(&str) -> Result<()>,
) -> Result<u64> {
    let count = read_count(from, what, MAX_LIST)?;
    let mut buffer = Vec::new();
    for _ in 0..count {
        each(read_str(from, what, &mut buffer)?)?;
    }
    Ok(count)
}

/// The same, kept.
pub(crate) fn read_all(from: &mut impl Read, what: &'static str) -> Result<Vec<String>> {
    let mut all = Vec::new();
    read_each(from, what, |text| {
        all.push(text.to_owned());
        Ok(())
    })?;
    Ok(all)
}

/// A request under construction, to be written in one piece.
#[derive(Debug, Default)]
pub(crate) struct Request(Vec<u8>);

impl Request {
    /// Begins with a number (an operation).
    pub(crate) fn new(first: u64) -> Self {
        Self::default().u64(first)
    }

    /// Appends a number.
    pub(crate) fn u64(mut self, value: u64) -> Self {
        self.0.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends text.
    pub(crate) fn str(self, text: &str) -> Self {
        self.bytes_of(text.as_bytes())
    }

    /// Appends bytes with their length before them.
    pub(crate) fn bytes_of(self, bytes: &[u8]) -> Self {
        let mut whole = self.u64(bytes.len() as u64);
        whole.0.extend_from_slice(bytes);
        whole.0.resize(whole.0.len().next_multiple_of(8), 0);
        whole
    }

    /// Appends texts.
    pub(crate) fn strs<'a>(self, texts: impl ExactSizeIterator<Item = &'a str>) -> Self {
        let whole = self.u64(texts.len() as u64);
        texts.fold(whole, Self::str)
    }

    /// What goes over the wire.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(bytes: &[u8]) -> Result<Vec<u8>> {
        let mut into = Vec::new();
        read_bytes(&mut &*bytes, "a string", &mut into).map(|()| into)
    }

    #[test]
    fn strings_are_padded_to_eight() {
        for text in ["", "a", "1234567", "12345678", "123456789"] {
            let request = Request::default().str(text).u64(7);
            assert_eq!(request.bytes().len() % 8, 0);
            let mut from = request.bytes();
            let mut buffer = Vec::new();
            assert_eq!(read_str(&mut from, "a string", &mut buffer).unwrap(), text);
            assert_eq!(read_u64(&mut from).unwrap(), 7);
        }
    }

    #[test]
    fn a_length_is_not_believed() {
        let huge = u64::MAX.to_le_bytes();
        assert!(matches!(string(&huge), Err(Error::TooLong { length: u64::MAX, .. })));
        // Within the limit, but nothing comes: memory is taken for what comes only.
        let mut into = Vec::new();
        let claim = MAX_STRING.to_le_bytes();
        assert!(matches!(read_bytes(&mut &claim[..], "a string", &mut into), Err(Error::Io(_))));
        assert!(into.capacity() < 4096, "{}", into.capacity());
    }

    #[test]
    fn padding_must_be_zero() {
        let mut bytes = Request::default().str("abc").bytes().to_vec();
        bytes[12] = 1;
        assert!(matches!(string(&bytes), Err(Error::Unexpected { what: "padding", .. })));
    }

    #[test]
    fn a_list_cut_anywhere_is_an_error() {
        let whole = Request::default().strs(["/nix/store/a", "/nix/store/bb"].into_iter());
        let mut seen = Vec::new();
        let mut keep = |path: &str| {
            seen.push(path.to_owned());
            Ok(())
        };
        assert_eq!(read_each(&mut whole.bytes(), "paths", &mut keep).unwrap(), 2);
        assert_eq!(seen, ["/nix/store/a", "/nix/store/bb"]);
        for cut in 0..whole.bytes().len() {
            assert!(read_each(&mut &whole.bytes()[..cut], "paths", |_| Ok(())).is_err(), "{cut}");
        }
    }

    #[test]
    fn a_hostile_list_is_refused() {
        let count = Request::new(MAX_LIST + 1);
        assert!(matches!(read_each(&mut count.bytes(), "paths", |_| Ok(())), Err(Error::TooLong { .. })));
        let mut bytes = Request::new(1).str("????").bytes().to_vec();
        bytes[16] = 0xff;
        assert!(matches!(read_each(&mut &*bytes, "paths", |_| Ok(())), Err(Error::NotText { .. })));
    }
}
