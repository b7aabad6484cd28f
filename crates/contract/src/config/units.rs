//! Sizes, durations and shares of a CPU as people write them.

use std::fmt;
use std::time::Duration;

/// An amount of memory or disk, in bytes. Written `10Gi`, `500M`, `1.5Gi`, `4096B`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Size(pub u64);

/// Largest first within each family: the first that divides a size evenly is the one it is shown in.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("T", 1_000_000_000_000),
    ("G", 1_000_000_000),
    ("M", 1_000_000),
    ("K", 1_000),
    ("B", 1),
];

/// What a size may look like, for messages and docs.
pub const SIZE_FORM: &str =
    "a size such as \"10Gi\", \"1.5Gi\" or \"500M\" (units B, K, M, G, T, Ki, Mi, Gi, Ti)";

/// [`SIZE_FORM`] for the JSON schema.
pub(crate) const SIZE_PATTERN: &str = r"^[0-9]+(\.[0-9]{1,6})?([KMGT]i?|B)$";

impl Size {
    /// So many GiB.
    #[must_use]
    pub const fn gib(n: u64) -> Self {
        Self(n << 30)
    }

    /// So many MiB.
    #[must_use]
    pub const fn mib(n: u64) -> Self {
        Self(n << 20)
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads what [`SIZE_FORM`] describes; a fraction of a byte is cut off.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor = SIZE_UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if (1..=6).contains(&fraction.len()) => (whole, fraction),
            Some(_) => return None,
            None => (number, ""),
        };
        let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
        let fraction = if fraction.is_empty() { 0 } else { fraction.parse::<u128>().ok()? };
        let scaled = u128::from(whole.parse::<u64>().ok()?).checked_mul(scale)?.checked_add(fraction)?;
        let bytes = scaled.checked_mul(u128::from(factor))? / scale;
        u64::try_from(bytes).ok().map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0B");
        }
        let unit = SIZE_UNITS.iter().find(|(_, factor)| self.0 % factor == 0);
        let (name, factor) = unit.copied().unwrap_or(("B", 1));
        write!(f, "{}{name}", self.0 / factor)
    }
}

/// Largest first; a duration names each at most once, in this order.
const DURATION_UNITS: [(&str, u64); 5] =
    [("w", 7 * 24 * 3600), ("d", 24 * 3600), ("h", 3600), ("m", 60), ("s", 1)];

/// What a duration may look like, for messages and docs.
pub const DURATION_FORM: &str = "a duration such as \"30m\", \"1h30m\" or \"2d\" (units w, d, h, m, s)";

/// [`DURATION_FORM`] for the JSON schema.
pub(crate) const DURATION_PATTERN: &str = "^([0-9]+[wdhms])+$";

/// The word for no duration at all, where an option has that.
pub const NEVER: &str = "never";

/// Reads what [`DURATION_FORM`] describes.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = DURATION_UNITS.iter();
    let mut seconds = 0u64;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.get(..1)?;
        let (_, factor) = units.find(|(name, _)| *name == unit)?;
        seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*factor)?)?;
        rest = &tail[1..];
    }
    Some(Duration::from_secs(seconds))
}

/// The shortest form that [`parse_duration`] reads back: `1h30m`. Parts of a second are left out. Weeks are
/// shown as days, as people count them.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut rest = duration.as_secs();
    if rest == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    for (name, factor) in &DURATION_UNITS[1..] {
        if rest >= *factor {
            text.push_str(&format!("{}{name}", rest / factor));
            rest %= factor;
        }
    }
    text
}

/// What a number of CPUs may look like, for messages and docs.
pub(crate) const CPUS_FORM: &str = "a number of CPUs such as 8, 0.5 or \"500m\"";

/// Reads thousandths of a CPU as Kubernetes writes them (`500m`).
#[must_use]
pub(crate) fn parse_millicpus(text: &str) -> Option<f64> {
    let digits = text.strip_suffix('m')?;
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse::<u32>().ok().map(|milli| f64::from(milli) / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that touch every unit, the borders between them, and the largest.
    fn samples() -> Vec<u64> {
        let mut numbers = vec![0, 1, 59, 60, 61, 999, 1000, 1024, 1500, u64::MAX, u64::MAX - 1];
        for shift in 0..64 {
            for off in [0, 1, 7] {
                numbers.push((1u64 << shift).wrapping_add(off));
            }
        }
        for (_, factor) in SIZE_UNITS.iter().chain(&DURATION_UNITS) {
            for n in [1, 3, 10, 999] {
                numbers.push(n * factor);
            }
        }
        numbers
    }

    #[test]
    fn sizes_survive_a_round_trip() {
        for n in samples() {
            let text = Size(n).to_string();
            assert_eq!(Size::parse(&text), Some(Size(n)), "{text}");
        }
    }

    #[test]
    fn durations_survive_a_round_trip() {
        for n in samples() {
            let duration = Duration::from_secs(n);
            let text = format_duration(duration);
            assert_eq!(parse_duration(&text), Some(duration), "{text}");
        }
    }

    #[test]
    fn sizes_are_read_exactly() {
        for (text, bytes) in [
            ("10Gi", 10 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("0.1K", 100),
            ("0.000001Ki", 0),
            ("7B", 7),
        ] {
            assert_eq!(Size::parse(text), Some(Size(bytes)), "{text}");
        }
        for text in [
            "",
            "10",
            "Gi",
            "10gi",
            "10GB",
            "1.Gi",
            ".5Gi",
            "1.2.3Gi",
            "-1Gi",
            "10 Gi",
            "99999999Ti",
            "1.0000001G",
        ] {
            assert_eq!(Size::parse(text), None, "{text}");
        }
        assert_eq!(Size::gib(16).to_string(), "16Gi");
        assert_eq!(Size(500_000_000).to_string(), "500M");
    }

    #[test]
    fn durations_are_read_exactly() {
        for (text, seconds) in [("30m", 1800), ("1h30m", 5400), ("2w1d", 15 * 86400), ("90s", 90), ("0s", 0)]
        {
            assert_eq!(parse_duration(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in
            ["", "30", "m", "30 m", "30m1h", "1h1h", "-1h", "1.5h", "1ä", "99999999999999999999s", "never"]
        {
            assert_eq!(parse_duration(text), None, "{text}");
        }
        assert_eq!(format_duration(Duration::from_secs(5400)), "1h30m");
        assert_eq!(format_duration(Duration::from_secs(14 * 86400)), "14d");
    }

    #[test]
    fn millicpus_are_read_exactly() {
        assert_eq!(parse_millicpus("500m"), Some(0.5));
        assert_eq!(parse_millicpus("10m"), Some(0.01));
        for text in ["m", "500", "0.5m", "-1m", ""] {
            assert_eq!(parse_millicpus(text), None, "{text}");
        }
    }
}
