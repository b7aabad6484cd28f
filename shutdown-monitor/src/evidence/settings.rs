//! Whoever has just changed the idle time is there; a shorter one must not be over already.

use std::time::Duration;

use super::{Says, Source};
use crate::judge::Seen;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Timeout {
    last: Option<Option<Duration>>,
}

impl Source for Timeout {
    fn look(&mut self, seen: &Seen) -> Says {
        // What nobody is ready for yet is not in force either.
        if !seen.ready {
            return Says::Nothing;
        }
        match self.last.replace(seen.idle_timeout) {
            Some(before) if before != seen.idle_timeout => Says::Happened("another idle-timeout".into()),
            _ => Says::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::quiet;

    #[test]
    fn a_change_counts_once() {
        let mut timeout = Timeout::default();
        let mut seen = quiet();
        assert_eq!(timeout.look(&seen), Says::Nothing);
        seen.idle_timeout = None;
        assert_eq!(timeout.look(&seen), Says::Happened("another idle-timeout".into()));
        assert_eq!(timeout.look(&seen), Says::Nothing);
    }
}
