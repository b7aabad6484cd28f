//! Bytes that were read and written: files, pipes and connections alike.

use std::time::Duration;

use super::{Group, Source};

/// Bytes a second, each counted by whoever reads it and whoever writes it. Less is a connection that is kept alive, a line now and then,
/// and a small program that is started once a second; the slowest transfer is more.
const RATE: u64 = 16 << 10;

/// See the module.
#[derive(Debug)]
pub(super) struct Bytes {
    word: &'static str,
    rate: u64,
    last: Option<u64>,
}

impl Bytes {
    /// Those that are worth it.
    pub(super) fn many() -> Self {
        Self { word: "bytes", rate: RATE, last: None }
    }

    /// Each one, of whoever is there to move them and does not keep anything alive.
    pub(super) fn any(word: &'static str) -> Self {
        Self { word, rate: 0, last: None }
    }
}

impl Source for Bytes {
    fn word(&self) -> &'static str {
        self.word
    }

    fn look(&mut self, group: &Group, elapsed: Duration) -> bool {
        let Some(last) = self.last.replace(group.bytes) else { return false };
        let moved = group.bytes.saturating_sub(last);
        // Not less than a second's, however short the pause.
        let millis = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX).max(1000);
        moved > self.rate.saturating_mul(millis) / 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keepalives_do_not_count_and_a_transfer_does() {
        let (mut many, mut any) = (Bytes::many(), Bytes::any("transfer"));
        let mut looks = |bytes, seconds| {
            let group = Group { bytes, ..Group::default() };
            let elapsed = Duration::from_secs(seconds);
            (many.look(&group, elapsed), any.look(&group, elapsed))
        };
        assert_eq!(looks(1 << 30, 10), (false, false), "the first look only remembers");
        assert_eq!(looks((1 << 30) + 80_000, 10), (false, true), "8 KB a second");
        assert_eq!(looks((1 << 30) + 80_000, 10), (false, false));
        assert_eq!(looks((1 << 30) + 300_000, 10), (true, true));
        assert_eq!(looks((1 << 30) + 310_000, 0), (false, true), "by chance");
        assert_eq!(looks(0, 10), (false, false), "what was there has ended");
    }
}
