//! Something was typed, or printed. The kernel notes when a terminal was last read and written, to 8 seconds; whether these times have
//! changed is all that is asked, so that a clock that is set says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Group, Source};

/// What is announced is written by the sessions themselves, a moment after they are told to; and the kernel's times are behind by up to
/// 8 seconds.
const ANNOUNCED: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    last: Option<BTreeMap<u32, (i64, i64)>>,
    /// So long, what appears may be our own.
    disturbed: Duration,
}

impl Source for Terminal {
    fn word(&self) -> &'static str {
        "terminal"
    }

    fn look(&mut self, group: &Group, elapsed: Duration) -> bool {
        let last = self.last.replace(group.terminals.clone());
        let disturbed = !self.disturbed.is_zero();
        self.disturbed = self.disturbed.saturating_sub(elapsed);
        let Some(last) = last else { return false };
        let (mut typed, mut printed) = (false, false);
        for (number, (read, written)) in &group.terminals {
            typed |= last.get(number).is_none_or(|(last_read, _)| read != last_read);
            printed |= last.get(number).is_some_and(|(_, last_written)| written != last_written);
        }
        if printed {
            self.disturbed = Duration::ZERO;
        }
        typed || (printed && !disturbed)
    }

    fn disturbed(&mut self) {
        self.disturbed = ANNOUNCED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_counts_but_our_own() {
        let mut terminal = Terminal::default();
        let with = |terminals: &[(u32, (i64, i64))]| Group {
            terminals: terminals.iter().copied().collect(),
            ..Group::default()
        };
        let mut looks = |terminals: &[(u32, (i64, i64))]| terminal.look(&with(terminals), Duration::ZERO);
        assert!(!looks(&[(0, (8, 8))]), "the first look only remembers");
        assert!(!looks(&[(0, (8, 8))]));
        assert!(looks(&[(0, (16, 8))]), "typed");
        assert!(looks(&[(0, (16, 24))]), "printed");
        assert!(looks(&[(0, (16, 24)), (1, (0, 0))]), "another one");
        assert!(!looks(&[(1, (0, 0))]), "closed");
        assert!(looks(&[(1, (0, -80))]), "whatever the clock says");
        terminal.disturbed();
        assert!(!terminal.look(&with(&[(1, (0, 32))]), Duration::ZERO), "what we have printed");
        terminal.disturbed();
        assert!(terminal.look(&with(&[(1, (40, 40))]), Duration::ZERO), "and the answer");
        assert!(terminal.look(&with(&[(1, (40, 48))]), Duration::ZERO), "once");
        terminal.disturbed();
        assert!(!terminal.look(&with(&[(1, (40, 48))]), ANNOUNCED / 2), "not printed yet");
        assert!(!terminal.look(&with(&[(1, (40, 56))]), ANNOUNCED / 2), "now it is");
        terminal.disturbed();
        assert!(!terminal.look(&with(&[(1, (40, 56))]), ANNOUNCED), "nothing was open then");
        assert!(terminal.look(&with(&[(1, (40, 64))]), Duration::ZERO), "this is somebody else's");
    }
}
