//! The wish that the builder stays. It is kept in the home, whose user may delay a stop, so that it outlives the pod.

use std::path::PathBuf;

use agent::files;
use contract::handshake::{Hold, Life};
use contract::hold::{FILE, LONGEST, REASON_MAX};
use serde::{Deserialize, Serialize};

use crate::Place;
use crate::error::{Error, Result, io_error};

/// As it is kept.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    /// In which [`Hold::ends`] counts.
    life: Life,
    #[serde(flatten)]
    hold: Hold,
}

/// See the module.
#[derive(Debug)]
pub struct Holding {
    dir: PathBuf,
    life: Life,
    hold: Option<Hold>,
}

impl Holding {
    /// As it was kept. What cannot be read is no wish, and is said.
    #[must_use]
    pub fn of(place: &Place, life: &Life) -> Self {
        let jobs = place.paths.jobs();
        let dir = jobs.parent().unwrap_or(&jobs).to_owned();
        let kept = files::read_json::<Kept>(&dir.join(FILE)).unwrap_or_else(|error| {
            tracing::warn!(error = %agent::status::chain(&error), "nobody knows until when the builder was to stay");
            None
        });
        let hold = kept.map(|kept| {
            let mut hold = kept.hold;
            if kept.life != *life {
                let left = hold.until.saturating_sub(agent::unix_now());
                hold.ends = nanoseconds_from_now(left);
            }
            hold
        });
        Self { dir, life: life.clone(), hold }
    }

    /// What is in force now.
    #[must_use]
    pub fn current(&self) -> Option<Hold> {
        let now = agent::in_use::now().unwrap_or_default();
        self.hold.clone().filter(|hold| hold.ends > now)
    }

    /// In place of any earlier one.
    ///
    /// # Errors
    /// When it is too long, or cannot be kept.
    pub fn set(&mut self, seconds: u64, reason: String, by: String) -> Result<()> {
        if seconds == 0 || seconds > LONGEST.as_secs() || reason.len() > REASON_MAX || by.len() > REASON_MAX {
            return Err(Error::Usage(
                "a hold lasts from 1s to 30d, and has a reason of at most 200 bytes".into(),
            ));
        }
        let clean = |text: String| text.replace(char::is_control, " ");
        let until = agent::unix_now() + seconds;
        let hold = Hold { until, ends: nanoseconds_from_now(seconds), reason: clean(reason), by: clean(by) };
        let kept = Kept { life: self.life.clone(), hold };
        std::fs::create_dir_all(&self.dir).map_err(io_error("make", &self.dir))?;
        files::write_json_durably(&self.dir, FILE, &kept)?;
        self.hold = Some(kept.hold);
        Ok(())
    }

    /// There need not be one.
    ///
    /// # Errors
    /// When it would be there again after a restart.
    pub fn release(&mut self) -> Result<()> {
        files::withdraw(&self.dir.join(FILE))?;
        self.hold = None;
        Ok(())
    }
}

fn nanoseconds_from_now(seconds: u64) -> u64 {
    agent::in_use::now().unwrap_or_default().saturating_add(seconds.saturating_mul(1_000_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent::paths::Paths;

    #[test]
    fn it_outlives_the_pod_and_not_its_time() {
        let dir = tempfile::tempdir().unwrap();
        let place = Place { paths: Paths::scratch(dir.path()), ssh_port: 0 };
        let (first, second) = (Life("a:1".into()), Life("b:2".into()));
        let mut holding = Holding::of(&place, &first);
        assert_eq!(holding.current(), None);
        for (seconds, reason) in [(0, ""), (LONGEST.as_secs() + 1, ""), (60, &*"x".repeat(REASON_MAX + 1))] {
            assert!(holding.set(seconds, reason.to_owned(), "me@here".into()).is_err());
        }
        holding.set(600, "a demo\n at ten".into(), "me@here".into()).unwrap();
        let hold = holding.current().unwrap();
        assert_eq!((hold.reason.as_str(), hold.by.as_str()), ("a demo  at ten", "me@here"));
        assert_eq!(Holding::of(&place, &first).current(), Some(hold.clone()), "our own restart");
        let again = Holding::of(&place, &second).current().unwrap();
        assert_eq!(again.until, hold.until);
        assert!(again.ends.abs_diff(hold.ends) < 5_000_000_000, "{again:?} {hold:?}");
        // Of another life only the calendar counts.
        let path = holding.dir.join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace(&hold.until.to_string(), "5")).unwrap();
        assert_eq!(Holding::of(&place, &second).current(), None, "over");
        assert!(Holding::of(&place, &first).current().is_some(), "a clock that was set");
        holding.release().unwrap();
        holding.release().unwrap();
        assert_eq!(holding.current(), None);
        assert_eq!(Holding::of(&place, &first).current(), None);
        std::fs::write(&path, "nonsense").unwrap();
        assert_eq!(Holding::of(&place, &first).current(), None);
    }
}
