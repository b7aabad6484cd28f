//! Whether user-init has let in what was asked of it. An exit code does not tell, since a command may end with any.

use std::os::fd::OwnedFd;

/// Of the output, bytes: the words, and why it was not let in.
const KEPT: usize = 4 << 10;

/// How whoever attaches to a command learns of it.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Nobody asks.
    Unasked,
    /// The command gets this as its descriptor 3, and writes to it once it is let in; of an engine that hands over files.
    File(OwnedFd),
    /// A command that is not let in ends with these words among its last ones. An engine through whose hands they go fails then as where
    /// it was not started.
    Words(String),
}

/// The end of an output, as long as what is looked for there may be.
#[derive(Debug)]
pub(super) struct LastWords {
    wanted: Option<String>,
    kept: Vec<u8>,
}

impl LastWords {
    pub(super) fn new(entry: Entry) -> Self {
        let wanted = if let Entry::Words(words) = entry { Some(words) } else { None };
        Self { wanted, kept: Vec::new() }
    }

    /// Whether a person has to see them: what we look for is for us.
    pub(super) fn hear(&mut self, bytes: &[u8]) -> bool {
        let Some(words) = &self.wanted else { return true };
        // What is longer is a command's own, and may be much.
        let for_people = bytes.len() > KEPT || !holds(bytes, words);
        self.kept.extend_from_slice(&bytes[bytes.len().saturating_sub(KEPT)..]);
        self.kept.drain(..self.kept.len().saturating_sub(KEPT));
        for_people
    }

    pub(super) fn tell_refusal(&self) -> bool {
        self.wanted.as_ref().is_some_and(|words| holds(&self.kept, words))
    }
}

fn holds(bytes: &[u8], words: &str) -> bool {
    String::from_utf8_lossy(bytes).contains(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_words_at_the_end_tell_of_a_refusal() {
        let heard = |parts: &[&str]| {
            let mut last = LastWords::new(Entry::Words("session 7-1 is refused".to_owned()));
            for part in parts {
                last.hear(part.as_bytes());
            }
            last.tell_refusal()
        };
        let long = "x".repeat(2 * KEPT);
        assert!(heard(&["user-init: session 7-1 is refused: it stops\n"]));
        assert!(heard(&[&long, "user-init: session 7", "-1 is refused: it stops\n"]));
        assert!(!heard(&["user-init: session 7-12 is refused: it stops\n"]));
        assert!(!heard(&["user-init: session 7-1 is refused: it stops\n", &long]));
        assert!(!heard(&[]));
        let mut last = LastWords::new(Entry::Unasked);
        assert!(last.hear(b"user-init: session 7-1 is refused"));
        assert!(!last.tell_refusal());
        let mut last = LastWords::new(Entry::Words("session 7-1 is refused".to_owned()));
        assert!(last.hear(b"out"));
        assert!(
            !last.hear(b"user-init: session 7-1 is refused: it stops\n"),
            "what comes of it is said instead"
        );
    }
}
