//! Times of the week at which something is done (`[maintenance] schedule`), in a time zone.

use jiff::civil::Time;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use super::window::{DAY_MINUTES, day, minute, named, zone};

/// A time of a day, on these days.
#[derive(Debug, Clone)]
pub struct Calendar {
    days: [bool; 7],
    minute: u32,
    zone: TimeZone,
}

impl Calendar {
    /// `None` unless both texts have been checked.
    pub(super) fn new(text: &str, zone_name: &str) -> Option<Self> {
        let (days, minute) = parse(text).ok()?;
        Some(Self { days, minute, zone: zone(zone_name).ok()? })
    }

    /// The first time after `now`; both in seconds since the epoch.
    #[must_use]
    pub fn after(&self, now: u64) -> Option<u64> {
        let now = Timestamp::from_second(i64::try_from(now).ok()?).ok()?;
        let today = now.to_zoned(self.zone.clone()).date();
        let time = Time::midnight().checked_add(SignedDuration::from_mins(i64::from(self.minute))).ok()?;
        // A week from today is the same day again.
        let days = (0..=7i64).filter_map(|ahead| today.checked_add(ahead.days()).ok());
        let times = days
            .filter(|date| self.days[day(date.weekday())])
            // A time that the clocks skip is the one behind the gap.
            .filter_map(|date| date.to_datetime(time).to_zoned(self.zone.clone()).ok());
        let next = times.map(|at| at.timestamp()).find(|at| *at > now)?;
        u64::try_from(next.as_second()).ok()
    }
}

/// Whether the text is what [`Calendar`] understands.
pub(super) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<([bool; 7], u32), String> {
    let text = match text {
        "daily" => "00:00",
        "weekly" => "Mon 00:00",
        other => other,
    };
    let (days, time) = text.rsplit_once(' ').unwrap_or(("", text));
    let minute = minute(time)?;
    if minute == DAY_MINUTES {
        return Err("24:00 is 00:00 of the next day".to_owned());
    }
    Ok((named(days.trim())?, minute))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first time after a local one, as a local one.
    fn after(text: &str, zone_name: &str, now: &str) -> String {
        let zone = zone(zone_name).unwrap();
        let now = now.parse::<jiff::civil::DateTime>().unwrap().to_zoned(zone.clone()).unwrap();
        let now = u64::try_from(now.timestamp().as_second()).unwrap();
        let next = Calendar::new(text, zone_name).unwrap().after(now).unwrap();
        let next = Timestamp::from_second(i64::try_from(next).unwrap()).unwrap().to_zoned(zone);
        next.datetime().to_string()
    }

    #[test]
    fn the_next_time() {
        // A Monday.
        assert_eq!(after("daily", "UTC", "2026-11-30T12:00"), "2026-12-01T00:00:00");
        assert_eq!(after("weekly", "UTC", "2026-11-30T00:00"), "2026-12-07T00:00:00", "after, not at");
        assert_eq!(after("Sun 03:00", "Europe/Berlin", "2026-11-30T12:00"), "2026-12-06T03:00:00");
        assert_eq!(after("Mon-Fri 03:00", "Europe/Berlin", "2026-12-04T12:00"), "2026-12-07T03:00:00");
        assert_eq!(after("03:00", "UTC", "2026-11-30T02:59:59"), "2026-11-30T03:00:00");
        // 02:30 does not exist on the last Sunday of March.
        assert_eq!(after("02:30", "Europe/Berlin", "2026-03-29T00:00"), "2026-03-29T03:30:00");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "hourly", "Sun", "Sun 24:00", "Sonntag 03:00", "3:00", "Sun 03:00-04:00"] {
            assert!(check(text).is_err(), "{text}");
        }
    }
}
