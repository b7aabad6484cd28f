//! A Nix that uses this store from elsewhere. Its machine may evaluate for long without a word, and sshd sees to it that it is still
//! there: so its silence counts, for a while.

use std::time::Duration;

use super::{Group, Source};

/// See the module.
#[derive(Debug)]
pub(super) struct Protocol {
    timeout: Duration,
    silent: Duration,
    last: Option<u64>,
}

impl Protocol {
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, silent: Duration::ZERO, last: None }
    }
}

impl Source for Protocol {
    fn word(&self) -> &'static str {
        "protocol"
    }

    fn look(&mut self, group: &Group, elapsed: Duration) -> bool {
        let moved = self.last.replace(group.bytes) != Some(group.bytes);
        self.silent = if moved { Duration::ZERO } else { self.silent.saturating_add(elapsed) };
        self.silent < self.timeout
    }
}

#[cfg(test)]
mod tests {
    use contract::room::speaks_nix;

    use super::*;

    #[test]
    fn its_silence_counts_for_a_while() {
        let mut protocol = Protocol::new(Duration::from_secs(7200));
        let mut looks = |bytes, seconds| {
            protocol.look(&Group { bytes, ..Group::default() }, Duration::from_secs(seconds))
        };
        assert!(looks(5, 0));
        assert!(looks(5, 7000));
        assert!(!looks(5, 300));
        assert!(looks(6, 900), "a single byte");
        assert!(looks(6, 7199));
        assert!(!looks(6, 1));
    }

    #[test]
    fn its_commands_are_known() {
        for command in [
            "nix-daemon --stdio",
            "nix-store --serve --write",
            "/nix/var/nix/profiles/default/bin/nix-daemon --stdio",
            "nix daemon --stdio",
        ] {
            assert!(speaks_nix(command), "{command}");
        }
        for command in
            ["", "bash", "nix-store --gc", "nix build", "echo nix-daemon --stdio", "rsync --server"]
        {
            assert!(!speaks_nix(command), "{command}");
        }
    }
}
