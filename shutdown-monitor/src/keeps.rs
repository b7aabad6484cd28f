//! What keeps an idle builder: somebody's hold, and the hours of the week in which it is to be there.

use std::time::{Duration, Instant};

use contract::config::Shutdown;
use contract::handshake::{Hold, Keep};

/// A reason to stay, and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// By the monotonic clock.
    pub ends: Instant,
    /// For `status`.
    pub keep: Keep,
}

/// Those in force. `nanoseconds` is `now` as others publish it, `wall` in seconds since the epoch.
#[must_use]
pub fn all(hold: Option<&Hold>, config: &Shutdown, now: Instant, nanoseconds: u64, wall: u64) -> Vec<Kept> {
    [hold.and_then(|hold| held(hold, now, nanoseconds)), in_window(config, now, wall)]
        .into_iter()
        .flatten()
        .collect()
}

/// By the monotonic clock: a calendar that is set neither ends nor prolongs it.
fn held(hold: &Hold, now: Instant, nanoseconds: u64) -> Option<Kept> {
    let left = Duration::from_nanos(hold.ends.checked_sub(nanoseconds).filter(|left| *left > 0)?);
    let ends = now.checked_add(left.min(contract::hold::LONGEST))?;
    let reason = if hold.reason.is_empty() { String::new() } else { format!(": {}", hold.reason) };
    let note = format!("{}{reason}", hold.by);
    Some(Kept { ends, keep: Keep { what: "hold".into(), until: hold.until, note } })
}

/// By the calendar, as it is meant.
fn in_window(config: &Shutdown, now: Instant, wall: u64) -> Option<Kept> {
    let until = config.window()?.until(wall)?;
    let ends = now.checked_add(Duration::from_secs(until.saturating_sub(wall)))?;
    let note = format!("{} {}", config.keep_up.as_deref().unwrap_or_default(), config.time_zone);
    Some(Kept { ends, keep: Keep { what: "keep-up".into(), until, note } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_hold_ends_by_the_clock_that_nobody_sets() {
        let now = Instant::now();
        let hold = |ends| Hold { until: 1000, ends, reason: "demo".into(), by: "me@here".into() };
        let kept = |ends| held(&hold(ends), now, 100 * SECOND);
        let found = kept(160 * SECOND).unwrap();
        assert_eq!(found.ends, now + Duration::from_secs(60));
        assert_eq!((found.keep.until, found.keep.note.as_str()), (1000, "me@here: demo"));
        assert_eq!((kept(100 * SECOND), kept(5)), (None, None), "over");
        assert_eq!(kept(u64::MAX).unwrap().ends, now + contract::hold::LONGEST, "whatever is published");
    }

    #[test]
    fn a_window_ends_by_the_calendar() {
        let now = Instant::now();
        let keep_up = Some("Mon-Fri 08:00-19:00".to_owned());
        let config = Shutdown { keep_up, time_zone: "Europe/Berlin".into(), ..Shutdown::default() };
        // Monday, 2026-11-30, 18:00 in Berlin.
        let six = 1_796_058_000;
        let found = all(None, &config, now, 0, six);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].ends, now + Duration::from_secs(3600));
        assert_eq!(found[0].keep.until, six + 3600);
        assert_eq!(found[0].keep.note, "Mon-Fri 08:00-19:00 Europe/Berlin");
        assert_eq!(all(None, &config, now, 0, six + 3600), []);
        assert_eq!(all(None, &Shutdown::default(), now, 0, six), []);
    }
}
