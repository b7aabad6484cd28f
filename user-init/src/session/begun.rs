//! Telling the client that a session was let in.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;

/// Where a client waits for one byte: then the session was let in, so that its command may have run.
#[derive(Debug)]
pub struct Begun(File);

impl Begun {
    /// What was handed over as this descriptor, which is closed: the command must not have it.
    ///
    /// # Errors
    /// When it is none to which one can write.
    pub fn handed_over(descriptor: RawFd) -> io::Result<Self> {
        let file = File::options().write(true).open(format!("/proc/self/fd/{descriptor}"))?;
        nix::unistd::close(descriptor)?;
        Ok(Self(file))
    }

    pub(super) fn tell(mut self) {
        // Nobody may be there to read it.
        let _ = self.0.write_all(&[1]);
    }
}
