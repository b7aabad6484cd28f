//! Something was typed, or printed. The kernel notes when a terminal was last read and written, to 8 seconds; whether these times have
//! changed is all that is asked, so that a clock that is set says nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Group, Source};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Terminal {
    last: Option<BTreeMap<u32, (i64, i64)>>,
    disturbed: bool,
}

impl Source for Terminal {
    fn word(&self) -> &'static str {
        "terminal"
    }

    fn look(&mut self, group: &Group, _elapsed: Duration) -> bool {
        let last = self.last.replace(group.terminals.clone());
        let disturbed = std::mem::take(&mut self.disturbed);
        let Some(last) = last else { return false };
        group.terminals.iter().any(|(number, (read, written))| match last.get(number) {
            Some((last_read, last_written)) => read != last_read || (written != last_written && !disturbed),
            None => true,
        })
    }

    fn disturbed(&mut self) {
        self.disturbed = true;
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
    }
}
