//! Whether user-init has let in what was asked of it. An exit code does not tell, since a command may end with any.

use std::ffi::OsString;
use std::os::fd::OwnedFd;

use bytes::Bytes;
use contract::exit::Exit;

/// How whoever attaches to a session learns of it.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Nobody asks.
    Unasked,
    /// The session gets this as its descriptor 3, and writes to it once it is let in; of an engine that hands over files.
    File(OwnedFd),
    /// The session writes this to its stderr once it is let in, before anything of its command's. An engine through whose hands that
    /// goes takes it out, and fails as where a command was not started if it never came.
    Word(String),
}

impl Entry {
    /// What `user-init session` is given for it.
    pub(crate) fn options(&self) -> Vec<OsString> {
        match self {
            Self::Unasked => Vec::new(),
            Self::File(_) => ["--begun-fd", "3"].map(OsString::from).to_vec(),
            Self::Word(word) => ["--begun-word", word].map(OsString::from).to_vec(),
        }
    }
}

/// With this whatever is still there is killed when its container's first process ends.
const KILLED: i32 = 137;

/// A stream in which a word is looked for.
#[derive(Debug)]
pub(super) struct Entrance {
    /// None once it has come, or if nobody asks.
    word: Option<String>,
    /// What may be its beginning.
    held: Vec<u8>,
}

impl Entrance {
    pub(super) fn new(entry: Entry) -> Self {
        let word = if let Entry::Word(word) = entry { Some(word) } else { None };
        Self { word, held: Vec::new() }
    }

    /// What people are to see of it now.
    pub(super) fn pass(&mut self, bytes: Bytes) -> Bytes {
        let Some(word) = &self.word else { return bytes };
        let word = word.as_bytes();
        self.held.extend_from_slice(&bytes);
        if let Some(at) = self.held.windows(word.len()).position(|part| part == word) {
            self.held.drain(at..at + word.len());
            self.word = None;
            return self.rest();
        }
        let begins = (1..word.len()).rev().find(|length| self.held.ends_with(&word[..*length]));
        let beginning = self.held.split_off(self.held.len() - begins.unwrap_or(0));
        std::mem::replace(&mut self.held, beginning).into()
    }

    /// What was held back.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// Whether what ended with this code has certainly not been let in.
    pub(super) fn was_closed(&self, code: i32) -> bool {
        self.word.is_some() && (code == i32::from(Exit::Stopping.code()) || code == KILLED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORD: &str = "<begun 7-1>";

    /// What is shown of a stream that comes in these parts, and whether nobody was let in.
    fn heard(parts: &[&'static str], code: i32) -> (String, bool) {
        let mut entrance = Entrance::new(Entry::Word(WORD.to_owned()));
        let mut shown = Vec::new();
        for part in parts {
            shown.extend_from_slice(&entrance.pass(Bytes::from_static(part.as_bytes())));
        }
        shown.extend_from_slice(&entrance.rest());
        (String::from_utf8(shown).expect("text"), entrance.was_closed(code))
    }

    #[test]
    fn the_word_is_taken_out_however_it_is_cut() {
        let whole = "it waits\n<begun 7-1>out<begun 7-1>";
        for at in 0..whole.len() {
            assert_eq!(
                heard(&[&whole[..at], &whole[at..]], 75),
                ("it waits\nout<begun 7-1>".to_owned(), false),
                "at {at}"
            );
        }
    }

    #[test]
    fn without_the_word_nobody_was_let_in() {
        for code in [75, 137] {
            assert!(heard(&[], code).1);
            assert_eq!(heard(&["it ", "waits <begun"], code), ("it waits <begun".to_owned(), true));
            assert!(!heard(&["<begun 7-1>"], code).1, "the code is the command's own");
        }
        assert!(!heard(&["no such project"], 66).1, "it says itself what is wrong");
        assert!(heard(&["<begun 7-12>"], 137).1, "somebody else");
    }

    #[test]
    fn where_nobody_asks_all_is_as_it_comes() {
        let mut entrance = Entrance::new(Entry::Unasked);
        assert_eq!(entrance.pass(Bytes::from_static(b"<begun 7-1>")), &b"<begun 7-1>"[..]);
        assert!(!entrance.was_closed(75));
    }
}
