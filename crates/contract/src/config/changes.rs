//! What differs between two configurations, and what it takes until that counts.

use super::Config;
use super::option::{Effect, Opt, Reader};
use super::table::options;

/// One option whose value differs.
#[derive(Debug, Clone, Copy)]
pub struct Change {
    /// Which.
    pub option: &'static Opt,
}

impl Change {
    /// When it counts.
    #[must_use]
    pub fn effect(&self) -> Effect {
        self.option.effect
    }

    /// Whether this program acts on it.
    #[must_use]
    pub fn concerns(&self, reader: Reader) -> bool {
        self.option.readers.contains(&reader)
    }
}

/// The options whose values differ, in the order of the default file.
#[must_use]
pub fn live_changes(old: &Config, new: &Config) -> Vec<Change> {
    options()
        .filter(|option| option.value(old) != option.value(new))
        .map(|option| Change { option })
        .collect()
}

/// One line that says which of these changes wait, and for what; `None`: all count at once.
#[must_use]
pub fn pending_note(changes: &[Change]) -> Option<String> {
    let mut parts = Vec::new();
    for effect in [Effect::Restart, Effect::Setup] {
        let keys: Vec<String> = changes
            .iter()
            .filter(|change| change.effect() == effect)
            .map(|change| change.option.path())
            .collect();
        if !keys.is_empty() {
            let count = if keys.len() == 1 { "counts" } else { "count" };
            parts.push(format!("{} {count} {}", keys.join(", "), effect.when()));
        }
    }
    (!parts.is_empty()).then(|| parts.join("; "))
}
