//! Builds, as the daemon container sees them: silent for hours is still running.

use super::{Says, Source};
use crate::judge::Seen;

const BUILD: &str = "build";

/// See the module.
#[derive(Debug)]
pub(super) struct Build {
    /// When the last one was seen, as published. Only ever compared with what it was before: clocks are set.
    last: Option<u64>,
}

impl Build {
    pub(super) fn new(last: Option<u64>) -> Self {
        Self { last }
    }
}

impl Source for Build {
    fn look(&mut self, seen: &Seen) -> Says {
        let Some(daemon) = &seen.daemon else { return Says::Nothing };
        let before = self.last.replace(daemon.last_build);
        if daemon.builds > 0 {
            return Says::Now(BUILD.into());
        }
        // One that was shorter than the time between two looks.
        if before.is_some_and(|before| before != daemon.last_build) {
            return Says::Happened(BUILD.into());
        }
        Says::Nothing
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{building, quiet};

    fn after(last_build: u64) -> Seen {
        let mut seen = quiet();
        seen.daemon.as_mut().unwrap().last_build = last_build;
        seen
    }

    #[test]
    fn one_that_runs_and_one_between_two_looks() {
        let mut build = Build::new(None);
        assert_eq!(build.look(&after(7)), Says::Nothing, "what was before we came");
        assert_eq!(build.look(&building()), Says::Now("build".into()));
        assert_eq!(build.look(&quiet()), Says::Nothing);
        assert_eq!(build.look(&after(9)), Says::Happened("build".into()));
        assert_eq!(build.look(&after(9)), Says::Nothing);
        assert_eq!(build.look(&after(5)), Says::Happened("build".into()), "whatever the clock says");
    }

    #[test]
    fn one_between_two_monitors() {
        assert_eq!(Build::new(Some(7)).look(&after(7)), Says::Nothing);
        assert_eq!(Build::new(Some(7)).look(&after(9)), Says::Happened("build".into()));
    }
}
