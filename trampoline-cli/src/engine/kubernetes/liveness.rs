//! Whether the other end of a connection that says nothing can still be there.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

/// After so long without a word, ask for a sign of life. Also keeps what stands in between (address translation, load
/// balancers) from forgetting us.
pub(super) const QUIET: Duration = Duration::from_secs(10);
/// After so long without one, ask others.
pub(super) const SILENT: Duration = Duration::from_secs(30);
/// What the other end may still say when we have ended ours and cannot tell it.
pub(super) const LINGER: Duration = Duration::from_secs(5);

/// Why a connection carries nothing any more, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lost(pub(super) String);

impl From<Lost> for io::Error {
    fn from(lost: Lost) -> Self {
        Self::new(io::ErrorKind::ConnectionReset, lost.0)
    }
}

/// Reading has failed.
impl From<io::Error> for Lost {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::in_the_middle(),
            _ => Self(format!("it broke: {error}")),
        }
    }
}

impl Lost {
    pub(super) fn in_the_middle() -> Self {
        Self("it ended in the middle".to_owned())
    }

    /// Writing has failed, though nobody has heard of it by reading.
    pub(super) fn unwritten() -> Self {
        Self("it takes nothing any more".to_owned())
    }
}

/// Asks by another way whether the other end can still be there.
pub(super) type Alive = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<(), Lost>> + Send>> + Send + Sync>;

/// It always can, in tests.
#[cfg(test)]
pub(super) fn always() -> Alive {
    Box::new(|| Box::pin(async { Ok(()) }))
}

/// What is known of the other end.
pub(super) struct Liveness {
    /// Bytes of input that it is known to have taken.
    taken: u64,
    silent: Duration,
    alive: Alive,
}

impl Liveness {
    pub(super) fn new(alive: Alive) -> Self {
        Self { taken: 0, silent: Duration::ZERO, alive }
    }

    /// Something came.
    pub(super) fn heard(&mut self) {
        self.silent = Duration::ZERO;
    }

    /// It has answered what was asked behind so many bytes.
    pub(super) fn took(&mut self, bytes: u64) {
        self.taken = bytes;
    }

    /// [`QUIET`] has passed once more. A server that waits for the command to take its input answers nobody; one that has taken
    /// all of it, `written` bytes, must.
    pub(super) async fn quiet(&mut self, written: u64) -> Result<(), Lost> {
        self.silent += QUIET;
        if self.silent < SILENT {
            return Ok(());
        }
        self.silent = Duration::ZERO;
        (self.alive)().await?;
        if written > self.taken {
            return Ok(());
        }
        Err(Lost(format!(
            "nothing came for {} s, though the API server answers: something in between has dropped the connection",
            SILENT.as_secs()
        )))
    }
}
