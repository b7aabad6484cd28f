//! What the user's processes use of the store. A collection must spare it, and Nix itself sees it only where it may read
//! other users' `/proc/PID`; so user-init looks when it is asked to, and publishes what it saw.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::handshake::Life;

/// `daemon` and `maintenance`: [`Look`].
pub const LOOK: &str = "look.json";
/// `user`: [`InUse`].
pub const IN_USE: &str = "in-use.json";
/// `maintenance`: [`Grace`].
pub const GRACE: &str = "grace.json";
/// `maintenance`: [`Asked`].
pub const ASKED: &str = "asked.json";

/// So many are published and kept at most. As JSON they fit what a reader takes, and no process is known that uses a
/// hundredth of it.
pub const MOST: usize = 16_000;

/// Asks user-init for a look that begins after this was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// This life.
    pub life: Life,
    /// Nanoseconds of the monotonic clock, which all containers of the pod share.
    pub asked: u64,
}

/// A process of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// In the pod's PID namespace.
    pub pid: i32,
    /// Field 22 of its `/proc/PID/stat`.
    pub start_time: u64,
}

/// How long ago what the next collections delete must have come into the store, in place of `[maintenance] grace-window`: valid
/// while the named process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grace {
    /// This life.
    pub life: Life,
    /// Who collects.
    #[serde(flatten)]
    pub by: Process,
    /// What was asked for.
    pub seconds: u64,
}

/// Somebody wants a collection now: what the agent does in between makes room for it. Valid while the named process lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// This life.
    pub life: Life,
    /// Who is to collect.
    #[serde(flatten)]
    pub by: Process,
}

/// What user-init saw. Its readers believe the names as little as anything that a user writes: they can only keep paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InUse {
    /// This life.
    pub life: Life,
    /// When the look began: nanoseconds of the monotonic clock.
    pub looked: u64,
    /// Names in the store folder, `HASH-NAME`.
    pub names: BTreeSet<String>,
}

/// Letters of Nix's base 32: no `e`, `o`, `t`, `u`.
const BASE32: &[u8] = b"0123456789abcdfghijklmnpqrsvwxyz";
const HASH: usize = 32;
/// Of what stands behind the hash and its dash.
const NAME_MAX: usize = 211;

fn may_stand_in_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte)
}

/// Whether this is the name of a store path, `HASH-NAME`: a single harmless component of a path.
#[must_use]
pub fn is_name(text: &str) -> bool {
    let Some((hash, name)) = text.as_bytes().split_at_checked(HASH) else { return false };
    let Some((b'-', name)) = name.split_first() else { return false };
    hash.iter().all(|byte| BASE32.contains(byte))
        && (1..=NAME_MAX).contains(&name.len())
        && name.iter().all(|byte| may_stand_in_a_name(*byte))
}

/// Adds the name of each store path that is spelt out anywhere in `text`. `store` is the store folder with a slash behind it.
pub fn find_names(text: &[u8], store: &[u8], into: &mut BTreeSet<String>) {
    let mut rest = text;
    while let Some(at) = rest.iter().position(|byte| *byte == b'/') {
        rest = &rest[at..];
        let Some(behind) = rest.strip_prefix(store) else {
            rest = &rest[1..];
            continue;
        };
        let end = behind.iter().position(|byte| !may_stand_in_a_name(*byte)).unwrap_or(behind.len());
        let (name, behind) = behind.split_at(end);
        rest = behind;
        // The same one often stands there many times.
        if let Ok(name) = std::str::from_utf8(name)
            && is_name(name)
            && !into.contains(name)
        {
            into.insert(name.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASHES: [&str; 2] = ["0123456789abcdfghijklmnpqrsvwxyz", "zyxwvsrqpnmlkjihgfdcba9876543210"];

    #[test]
    fn names_are_names_and_nothing_else() {
        for good in ["hello", "hello-2.12.drv", "a", "A+b_c?d=e", ".hidden", &"x".repeat(211)] {
            assert!(is_name(&format!("{}-{good}", HASHES[0])), "{good}");
        }
        for bad in ["", "a/b", "a b", "..\0", "ä", "a\n", &"x".repeat(212)] {
            assert!(!is_name(&format!("{}-{bad}", HASHES[0])), "{bad}");
        }
        for bad in ["", ".", "..", "hello", HASHES[0], "../../../../../../etc/passwd-and-so-on"] {
            assert!(!is_name(bad), "{bad}");
        }
        // Not a letter of that alphabet, and one too few.
        assert!(!is_name(&format!("{}-a", HASHES[0].replace('f', "e"))));
        assert!(!is_name(&format!("{}-a", &HASHES[0][1..])));
    }

    #[test]
    fn they_are_found_wherever_they_stand() {
        let [first, second] = HASHES.map(|hash| format!("{hash}-x"));
        let found = |text: &str| {
            let mut names = BTreeSet::new();
            find_names(text.as_bytes(), b"/nix/store/", &mut names);
            names.into_iter().collect::<Vec<_>>()
        };
        let both = format!("A=/nix/store/{second}/bin:/nix/store/{first}\0B=-L/nix/store/{first}/lib");
        assert_eq!(found(&both), [first.as_str(), &second]);
        assert_eq!(found(&format!("/nix/nix/store/{first}/bin/x (deleted)")), [first.as_str()]);
        assert_eq!(found(&format!("//nix/store//nix/store/{first}")), [first.as_str()]);
        for none in [String::new(), "/nix/store/".into(), format!("/nix/store{first}"), first.clone()] {
            assert!(found(&none).is_empty(), "{none}");
        }
    }

    #[test]
    fn the_most_that_is_published_can_be_read() {
        let name = |n: usize| format!("{n:032}-{}", "x".repeat(NAME_MAX));
        let names: BTreeSet<String> = (0..MOST).map(name).collect();
        assert!(names.iter().all(|name| is_name(name)));
        let all = InUse { life: Life("b:1".into()), looked: u64::MAX, names };
        assert!(serde_json::to_vec(&all).unwrap().len() < 4 << 20);
    }
}
