//! Whether the builder serves at all. One that cannot be used is not idle: it starts, or something in it has died.

use super::{Says, Source};
use crate::judge::Seen;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Serving {
    /// [`Seen::daemon_since`] as it was.
    daemon: Option<u64>,
}

impl Source for Serving {
    fn look(&mut self, seen: &Seen) -> Says {
        match &seen.user {
            _ if !seen.ready => Says::Unknown("waiting for the daemon".into()),
            Some(user) if seen.user_serves && seen.daemon.is_some() => {
                if user.sshd_down {
                    return Says::Unknown("waiting for sshd".into());
                }
                let before = self.daemon.replace(seen.daemon_since);
                if before.is_some_and(|before| before != seen.daemon_since) {
                    return Says::Happened("start".into());
                }
                Says::Nothing
            }
            _ => Says::Unknown("start".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::quiet;

    #[test]
    fn whoever_is_missing_is_waited_for() {
        let says = |change: fn(&mut Seen)| {
            let mut seen = quiet();
            change(&mut seen);
            Serving::default().look(&seen)
        };
        assert_eq!(says(|_| {}), Says::Nothing);
        assert_eq!(says(|seen| seen.ready = false), Says::Unknown("waiting for the daemon".into()));
        assert_eq!(says(|seen| seen.daemon = None), Says::Unknown("start".into()));
        assert_eq!(says(|seen| seen.user = None), Says::Unknown("start".into()));
        assert_eq!(says(|seen| seen.user_serves = false), Says::Unknown("start".into()));
        let no_sshd = says(|seen| seen.user.as_mut().unwrap().sshd_down = true);
        assert_eq!(no_sshd, Says::Unknown("waiting for sshd".into()));
    }

    #[test]
    fn a_daemon_that_died_between_two_looks_is_missed_all_the_same() {
        let mut serving = Serving::default();
        let mut seen = quiet();
        assert_eq!(serving.look(&seen), Says::Nothing);
        seen.daemon_since += 1;
        assert_eq!(serving.look(&seen), Says::Happened("start".into()));
        assert_eq!(serving.look(&seen), Says::Nothing);
    }
}
