//! Order of Nix versions.

use std::cmp::Ordering;

/// By their numbers, in order: `2.8.0` < `2.26.3` < `2.34.8` < `2.35pre20260101`. What is not known counts as oldest.
pub(crate) fn compare(a: &str, b: &str) -> Ordering {
    numbers(a).cmp(numbers(b))
}

/// The newer one.
pub(crate) fn newest<'a>(a: &'a str, b: &'a str) -> &'a str {
    if compare(a, b) == Ordering::Less { b } else { a }
}

fn numbers(version: &str) -> impl Iterator<Item = u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let ordered = ["", "2.8.0", "2.26.3", "2.34.8", "2.35pre20260101_abc", "3.0"];
        for pair in ordered.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(newest(pair[0], pair[1]), pair[1]);
        }
        assert_eq!(compare("2.26.3", "2.26.3"), Ordering::Equal);
    }
}
