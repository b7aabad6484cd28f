//! Jobs that run or wait for their turn, whether somebody follows them or not.

use super::{Says, Source};
use crate::judge::Seen;

/// See the module.
#[derive(Debug)]
pub(super) struct Job;

impl Source for Job {
    fn look(&mut self, seen: &Seen) -> Says {
        let any = seen.user.as_ref().is_some_and(|user| !user.jobs.is_empty());
        if any { Says::Now("job".into()) } else { Says::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::quiet;

    #[test]
    fn each_counts() {
        let mut seen = quiet();
        assert_eq!(Job.look(&seen), Says::Nothing);
        seen.user.as_mut().unwrap().jobs.push("1".into());
        assert_eq!(Job.look(&seen), Says::Now("job".into()));
    }
}
