//! Processor time.

use std::time::Duration;

use super::{Group, Source};

/// `/proc` counts in hundredths of a second on every machine that Linux runs on today.
const TICK: Duration = Duration::from_millis(10);
/// Less than this share of one processor is what the server of an editor needs to keep itself and its connection alive.
const PERCENT: u32 = 2;
/// So little is chance, however short the pause; on a machine that is busy elsewhere more may be hard to come by.
const LEAST: Duration = Duration::from_millis(20);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Cpu {
    last: Option<u64>,
}

impl Source for Cpu {
    fn word(&self) -> &'static str {
        "cpu"
    }

    fn look(&mut self, group: &Group, elapsed: Duration) -> bool {
        let Some(last) = self.last.replace(group.ticks) else { return false };
        let used = TICK.saturating_mul(u32::try_from(group.ticks.saturating_sub(last)).unwrap_or(u32::MAX));
        used > LEAST.max(elapsed * PERCENT / 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_time_counts() {
        let mut cpu = Cpu::default();
        let mut looks = |ticks, seconds| {
            let group = Group { ticks, ..Group::default() };
            cpu.look(&group, Duration::from_secs(seconds))
        };
        assert!(!looks(1000, 15), "the first look only remembers");
        assert!(!looks(1030, 15), "0.3 s in 15");
        assert!(looks(1061, 15), "0.31 s in 15");
        assert!(!looks(1061, 15));
        assert!(!looks(1063, 0), "by chance");
        assert!(looks(1066, 0));
        assert!(!looks(1000, 15), "one has ended whose time nobody has taken over");
        assert!(looks(1100, 15));
    }
}
