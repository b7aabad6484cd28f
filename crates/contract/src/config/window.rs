//! Hours of the week in which a builder stays (`[shutdown] keep-up`), in a time zone. The rules of all zones are built in, as an image
//! need not have them.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp, ToSpan};

const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
pub(super) const DAY_MINUTES: u32 = 24 * 60;
/// Spans that follow each other without a gap are one; a week of them is for ever.
const ROUNDS: u32 = 14;

/// A zone by its name.
pub(super) fn zone(name: &str) -> Result<TimeZone, String> {
    TimeZoneDatabase::bundled().get(name).map_err(|_| "no such time zone".to_owned())
}

/// On these days from a minute to another one; not after it: into the next day.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    days: [bool; 7],
    from: u32,
    to: u32,
}

/// Such spans, in a zone.
#[derive(Debug, Clone)]
pub struct Window {
    spans: Vec<Span>,
    zone: TimeZone,
}

impl Window {
    /// `None` unless both texts have been checked.
    pub(super) fn new(text: &str, zone_name: &str) -> Option<Self> {
        Some(Self { spans: parse(text).ok()?, zone: zone(zone_name).ok()? })
    }

    /// When it ends, if `now` lies in it; both in seconds since the epoch.
    #[must_use]
    pub fn until(&self, now: u64) -> Option<u64> {
        let now = Timestamp::from_second(i64::try_from(now).ok()?).ok()?;
        let mut end = None;
        for _ in 0..ROUNDS {
            match self.spans.iter().filter_map(|span| self.end_of(span, end.unwrap_or(now))).max() {
                Some(later) if end.is_none_or(|end| later > end) => end = Some(later),
                _ => break,
            }
        }
        end.and_then(|end| u64::try_from(end.as_second()).ok())
    }

    fn end_of(&self, span: &Span, now: Timestamp) -> Option<Timestamp> {
        let today = now.to_zoned(self.zone.clone()).date();
        // One that began yesterday may go on.
        let begun = [today.yesterday().ok(), Some(today)].into_iter().flatten();
        begun
            .filter(|date| span.days[day(date.weekday())])
            .filter_map(|date| {
                let next = u32::from(span.to <= span.from);
                let (from, to) = (self.at(date, span.from)?, self.at(date, span.to + next * DAY_MINUTES)?);
                (from <= now && now < to).then_some(to)
            })
            .max()
    }

    fn at(&self, date: Date, minute: u32) -> Option<Timestamp> {
        let date = date.checked_add(i64::from(minute / DAY_MINUTES).days()).ok()?;
        let of_day = SignedDuration::from_mins(i64::from(minute % DAY_MINUTES));
        let time = Time::midnight().checked_add(of_day).ok()?;
        // A time that the clocks skip is the one behind the gap.
        Some(date.to_datetime(time).to_zoned(self.zone.clone()).ok()?.timestamp())
    }
}

pub(super) fn day(weekday: Weekday) -> usize {
    usize::try_from(weekday.to_monday_zero_offset()).unwrap_or_default()
}

/// Whether the text is what [`Window`] understands.
pub(super) fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn parse(text: &str) -> Result<Vec<Span>, String> {
    text.split(';').map(|part| span(part.trim())).collect()
}

fn span(text: &str) -> Result<Span, String> {
    let (days, hours) = text.rsplit_once(' ').unwrap_or(("", text));
    let Some((from, to)) = hours.split_once('-') else {
        return Err(format!("{hours:?} is not a time from HH:MM to HH:MM"));
    };
    let (from, to) = (minute(from)?, minute(to)?);
    if from == DAY_MINUTES {
        return Err("begins at 24:00, which is 00:00 of the next day".to_owned());
    }
    Ok(Span { days: named(days.trim())?, from, to })
}

/// `Mon-Fri,Sun`; nothing: each day.
pub(super) fn named(text: &str) -> Result<[bool; 7], String> {
    let mut days = [text.is_empty(); 7];
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let place = |name: &str| {
            let name = name.trim();
            let at = DAYS.iter().position(|day| day.eq_ignore_ascii_case(name));
            at.ok_or_else(|| format!("{name:?} is no day"))
        };
        let (first, last) = (place(first)?, place(last)?);
        // `Sat-Mon` goes over the end of the week.
        let count = (last + 7 - first) % 7;
        (0..=count).for_each(|n| days[(first + n) % 7] = true);
    }
    Ok(days)
}

pub(super) fn minute(text: &str) -> Result<u32, String> {
    let two = |text: &str| text.parse::<u32>().ok().filter(|_| text.len() == 2 && !text.starts_with('+'));
    let parts = text.split_once(':').and_then(|(hour, minute)| Some((two(hour)?, two(minute)?)));
    match parts {
        Some((hour, minute)) if hour < 24 && minute < 60 || (hour, minute) == (24, 0) => {
            Ok(hour * 60 + minute)
        }
        _ => Err(format!("{text:?} is no time of a day")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seconds since the epoch of a local time.
    fn at(zone: &str, text: &str) -> u64 {
        let time = text.parse::<jiff::civil::DateTime>().unwrap();
        let zone = super::zone(zone).unwrap();
        u64::try_from(time.to_zoned(zone).unwrap().timestamp().as_second()).unwrap()
    }

    fn until(window: &str, zone: &str, now: &str) -> Option<u64> {
        Window::new(window, zone).unwrap().until(at(zone, now))
    }

    #[test]
    fn office_hours() {
        let (window, zone) = ("Mon-Fri 08:00-19:00", "Europe/Berlin");
        let end = Some(at(zone, "2026-11-30T19:00"));
        // A Monday.
        assert_eq!(until(window, zone, "2026-11-30T08:00"), end);
        assert_eq!(until(window, zone, "2026-11-30T18:59:59"), end);
        for outside in ["2026-11-30T07:59:59", "2026-11-30T19:00", "2026-11-29T12:00"] {
            assert_eq!(until(window, zone, outside), None, "{outside}");
        }
        // Seven in the morning there is not yet eight, whatever the hour in London.
        assert_eq!(Window::new(window, zone).unwrap().until(at("UTC", "2026-11-30T07:00")), end);
    }

    #[test]
    fn over_midnight_and_over_the_week_and_without_a_gap() {
        let zone = "UTC";
        let night = "Sun 22:00-06:00";
        let end = Some(at(zone, "2026-11-30T06:00"));
        assert_eq!(until(night, zone, "2026-11-29T23:00"), end);
        assert_eq!(until(night, zone, "2026-11-30T05:59"), end);
        assert_eq!(until(night, zone, "2026-11-30T22:30"), None, "a Monday's night is not Sunday's");
        let both = "Sat-Mon 20:00-24:00; Sun 00:00-02:00";
        assert_eq!(until(both, zone, "2026-11-28T21:00"), Some(at(zone, "2026-11-29T02:00")));
        assert!(until("00:00-24:00", zone, "2026-11-28T21:00").unwrap() > at(zone, "2026-12-05T00:00"));
        assert!(until("12:00-12:00", zone, "2026-11-28T11:59").unwrap() > at(zone, "2026-12-05T00:00"));
    }

    #[test]
    fn clocks_that_are_changed() {
        let (window, zone) = ("02:30-04:00", "Europe/Berlin");
        // In March 02:30 does not exist: it begins at 03:30.
        assert_eq!(until(window, zone, "2026-03-29T03:15"), None);
        assert_eq!(until(window, zone, "2026-03-29T03:30"), Some(at(zone, "2026-03-29T04:00")));
        // In October it is there twice; it lasts from the first one.
        let first = at("UTC", "2026-10-25T00:30");
        let end = Some(at("UTC", "2026-10-25T03:00"));
        assert_eq!(Window::new(window, zone).unwrap().until(first), end);
    }

    #[test]
    fn nonsense_is_refused_with_its_part() {
        for (text, part) in [
            ("Mon-Fri", "\"Mon\" is no time"),
            ("Mon-Fri 8-19", "\"8\" is no time"),
            ("Mon-Fri 08:00", "is not a time from"),
            ("Mo 08:00-09:00", "\"Mo\" is no day"),
            ("08:00-25:00", "\"25:00\""),
            ("24:00-25:00", "\"25:00\""),
            ("24:00-01:00", "begins at 24:00"),
            ("Mon 08:00-09:00;", "\"\""),
            ("+1:00-09:00", "\"+1:00\""),
        ] {
            let why = check(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(zone("Europe/Berlin").is_ok() && zone("Europe/Berlino").is_err());
    }
}
