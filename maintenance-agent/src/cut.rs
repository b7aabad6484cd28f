//! How what is asked of the daemon is cut short.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Ends conversations from another thread: the daemon notices, and stops what it does for us.
#[derive(Debug, Default)]
pub struct Cut {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    cut: bool,
    /// Of those that go on.
    streams: Vec<Weak<UnixStream>>,
}

impl Cut {
    /// Ends all of them, and those that would begin later.
    pub fn cut(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.cut = true;
        for stream in inner.streams.drain(..).filter_map(|stream| stream.upgrade()) {
            // It may have ended by itself.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Whether it was.
    pub(crate) fn is_cut(&self) -> bool {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).cut
    }

    /// From now on, for as long as the stream lives.
    pub(crate) fn add(&self, stream: &Arc<UnixStream>) -> io::Result<()> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.cut {
            return Err(io::ErrorKind::Interrupted.into());
        }
        inner.streams.retain(|stream| stream.strong_count() > 0);
        inner.streams.push(Arc::downgrade(stream));
        Ok(())
    }
}
