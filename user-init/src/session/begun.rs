//! Telling the client that a session was let in. Its exit code does not: a command may end with any, and whatever still starts when
//! user-init ends is killed with it.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;

use contract::session::turned_away;

/// How a client learns that the session was let in, so that its command may have run.
#[derive(Debug)]
pub enum Begun {
    /// It waits here for one byte.
    File(File),
    /// It carries our stderr and takes this out of it, by which nothing of the command's can have gone before.
    Word(String),
}

impl Begun {
    /// What was handed over as this descriptor, which is closed: the command must not have it.
    ///
    /// # Errors
    /// When it is none to which one can write.
    pub fn handed_over(descriptor: RawFd) -> io::Result<Self> {
        let file = File::options().write(true).open(format!("/proc/self/fd/{descriptor}"))?;
        nix::unistd::close(descriptor)?;
        Ok(Self::File(file))
    }

    pub(super) fn tell(self) {
        // Nobody may be there to read it.
        let _ = match self {
            Self::File(mut file) => file.write_all(&[1]),
            Self::Word(word) => io::stderr().write_all(word.as_bytes()),
        };
    }

    /// That it was not let in. Who waits for a byte knows by its absence; of a stream a part may be lost on its way.
    pub(super) fn tell_of_refusal(&self) {
        if let Self::Word(word) = self {
            let _ = io::stderr().write_all(turned_away(word).as_bytes());
        }
    }
}
