//! What speaks for work, a source each. None of them has a clock or files of its own.

mod build;
mod job;
mod serving;
mod session;
mod settings;

use std::fmt;
use std::time::Instant;

use crate::judge::Seen;

/// What a source says of one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Says {
    /// Nothing goes on, as far as this source sees.
    Nothing,
    /// Something goes on.
    Now(String),
    /// Something has happened since the last look, and is over.
    Happened(String),
    /// Something happened then, and is over.
    At(Instant, String),
    /// It cannot tell: that counts as if something went on.
    Unknown(String),
}

/// A kind of evidence.
pub trait Source: fmt::Debug + Send {
    /// Looks; what was published in the life before is absent from `seen`.
    fn look(&mut self, seen: &Seen) -> Says;
}

/// All of them, those first that explain most. `last_build` is what the monitor before us saw last in this life.
#[must_use]
pub fn sources(last_build: Option<u64>) -> Vec<Box<dyn Source>> {
    vec![
        Box::new(serving::Serving::default()),
        Box::new(build::Build::new(last_build)),
        Box::new(job::Job),
        Box::new(session::Sessions),
        Box::new(session::Detached),
        Box::new(session::Last),
        Box::new(settings::Timeout::default()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What nobody has published says nothing, but that nobody serves.
    #[test]
    fn a_missing_file_is_no_evidence_and_no_panic() {
        let mut sources = sources(None);
        let said: Vec<Says> = sources.iter_mut().map(|source| source.look(&Seen::default())).collect();
        assert_eq!(said[0], Says::Unknown("waiting for the daemon".into()));
        assert!(said[1..].iter().all(|says| *says == Says::Nothing), "{said:?}");
    }
}
