//! Whether user-init has let in what was asked of it. An exit code does not tell, since a command may end with any.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use contract::exit::Exit;
use contract::session::{begun, turned_away};

/// How whoever attaches to a session learns of it.
#[derive(Debug)]
pub(crate) enum Entry {
    /// Nobody asks.
    Unasked,
    /// The session gets this as its descriptor 3, and writes to it once it is let in; of an engine that hands over files.
    File(OwnedFd),
    /// The session writes a word to its stderr once it is let in, before anything of its command's, or another if it is not. An engine
    /// through whose hands that goes takes it out.
    Word(Word),
}

/// See [`Entry::Word`].
#[derive(Debug, Clone)]
pub(crate) struct Word {
    begun: String,
    heard: Arc<OnceLock<bool>>,
}

impl Word {
    /// Of the session that the client calls so.
    pub(crate) fn of(id: &str) -> Self {
        Self { begun: begun(id), heard: Arc::default() }
    }

    /// Whether the session was let in; none: it said neither.
    pub(crate) fn heard(&self) -> Option<bool> {
        self.heard.get().copied()
    }

    /// What an engine knows by other means.
    pub(super) fn not_let_in(&self) {
        // What was heard holds.
        let _ = self.heard.set(false);
    }
}

impl Entry {
    /// What `user-init session` is given for it.
    pub(crate) fn options(&self) -> Vec<OsString> {
        match self {
            Self::Unasked => Vec::new(),
            Self::File(_) => ["--begun-fd", "3"].map(OsString::from).to_vec(),
            Self::Word(word) => ["--begun-word", &word.begun].map(OsString::from).to_vec(),
        }
    }
}

/// Whether a code may be that of somebody who did not let a command run: `Stopping`, podman's own for a container that does not
/// run, or the kernel's, which kills whatever is still there when a container's first process ends.
pub(crate) fn may_be_a_refusal(code: i32) -> bool {
    code == i32::from(Exit::Stopping.code()) || matches!(code, 125 | KILLED | 255)
}

/// With this whatever is still there is killed when its container's first process ends.
const KILLED: i32 = 137;

/// A stream in which a word is looked for.
#[derive(Debug)]
pub(super) struct Entrance {
    /// None where nobody asks.
    word: Option<Word>,
    /// What may be the beginning of one.
    held: Vec<u8>,
}

impl Entrance {
    pub(super) fn new(entry: Entry) -> Self {
        let word = if let Entry::Word(word) = entry { Some(word) } else { None };
        Self { word, held: Vec::new() }
    }

    /// What people are to see of it now.
    pub(super) fn pass(&mut self, bytes: Bytes) -> Bytes {
        let Some(word) = self.word.as_ref().filter(|word| word.heard().is_none()) else { return bytes };
        self.held.extend_from_slice(&bytes);
        let words = [(word.begun.clone(), true), (turned_away(&word.begun), false)];
        let find = |text: &str| self.held.windows(text.len()).position(|part| part == text.as_bytes());
        let found = words.iter().filter_map(|(text, let_in)| Some((find(text)?, text.len(), *let_in))).min();
        if let Some((at, length, let_in)) = found {
            let _ = word.heard.set(let_in);
            self.held.drain(at..at + length);
            return self.rest();
        }
        let begins = |text: &str| {
            (1..text.len()).rev().find(|&length| self.held.ends_with(&text.as_bytes()[..length]))
        };
        let held = words.iter().filter_map(|(text, _)| begins(text)).max().unwrap_or(0);
        let beginning = self.held.split_off(self.held.len() - held);
        std::mem::replace(&mut self.held, beginning).into()
    }

    /// What was held back.
    pub(super) fn rest(&mut self) -> Bytes {
        std::mem::take(&mut self.held).into()
    }

    /// Whether what ended with this code has certainly not been let in, where nothing of the stream is ever lost.
    pub(super) fn was_closed(&self, code: i32) -> bool {
        match self.word.as_ref().map(Word::heard) {
            None | Some(Some(true)) => false,
            Some(Some(false)) => true,
            Some(None) => code == i32::from(Exit::Stopping.code()) || code == KILLED,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown of a stream that comes in these parts, whether the session was let in, and whether it was closed.
    fn heard(parts: &[&str], code: i32) -> (String, Option<bool>, bool) {
        let word = Word::of("7-1");
        let mut entrance = Entrance::new(Entry::Word(word.clone()));
        let mut shown = Vec::new();
        for part in parts {
            shown.extend_from_slice(&entrance.pass(Bytes::copy_from_slice(part.as_bytes())));
        }
        shown.extend_from_slice(&entrance.rest());
        (String::from_utf8(shown).expect("text"), word.heard(), entrance.was_closed(code))
    }

    #[test]
    fn the_word_is_taken_out_however_it_is_cut() {
        let (yes, no) = (begun("7-1"), turned_away(&begun("7-1")));
        for (word, let_in) in [(&yes, true), (&no, false)] {
            let whole = format!("it waits\n{word}out{yes}");
            let shown = format!("it waits\nout{yes}");
            for at in 0..whole.len() {
                let expected = (shown.clone(), Some(let_in), !let_in);
                assert_eq!(heard(&[&whole[..at], &whole[at..]], 75), expected, "at {at}");
            }
        }
    }

    #[test]
    fn without_the_word_nobody_was_let_in() {
        for code in [75, 137] {
            assert!(heard(&[], code).2);
            assert_eq!(heard(&["it ", "waits <sess"], code), ("it waits <sess".to_owned(), None, true));
            assert!(!heard(&[&begun("7-1")], code).2, "the code is the command's own");
        }
        assert!(!heard(&["no such project"], 66).2, "it says itself what is wrong");
        assert!(heard(&[&begun("7-12")], 137).2, "somebody else");
    }

    #[test]
    fn where_nobody_asks_all_is_as_it_comes() {
        let mut entrance = Entrance::new(Entry::Unasked);
        assert_eq!(entrance.pass(Bytes::from(begun("7-1"))), begun("7-1").as_bytes());
        assert!(!entrance.was_closed(75));
    }

    #[test]
    fn few_codes_may_be_a_refusal() {
        let codes: Vec<i32> = (0..256).filter(|code| may_be_a_refusal(*code)).collect();
        assert_eq!(codes, [75, 125, 137, 255]);
    }
}
