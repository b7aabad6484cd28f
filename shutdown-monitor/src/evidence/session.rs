//! People and their machines, by what they do: user-init looks at their processes. An open connection alone is nothing.

use contract::handshake::SessionKind;

use super::{Says, Source};
use crate::judge::Seen;

/// Open sessions that do something.
#[derive(Debug)]
pub(super) struct Sessions;

impl Source for Sessions {
    fn look(&mut self, seen: &Seen) -> Says {
        let sessions = seen.user.iter().flat_map(|user| &user.sessions);
        let mut doing = sessions.filter_map(|session| Some((session.kind, session.doing.as_ref()?)));
        let Some((kind, doing)) = doing.next() else { return Says::Nothing };
        Says::Now(match kind {
            SessionKind::Ssh => format!("session (ssh): {doing}"),
            SessionKind::Exec => format!("session (exec): {doing}"),
            SessionKind::Transfer => "transfer".into(),
        })
    }
}

/// Processes of the user's that belong to no session.
#[derive(Debug)]
pub(super) struct Detached;

impl Source for Detached {
    fn look(&mut self, seen: &Seen) -> Says {
        let doing = seen.user.as_ref().and_then(|user| user.detached.as_ref());
        doing.map_or(Says::Nothing, |doing| Says::Now(format!("process: {doing}")))
    }
}

/// The last that any of them did.
#[derive(Debug)]
pub(super) struct Last;

impl Source for Last {
    fn look(&mut self, seen: &Seen) -> Says {
        seen.last.clone().map_or(Says::Nothing, |(at, source)| Says::At(at, source))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::judge::tests::{quiet, session};

    #[test]
    fn what_they_do_counts_and_not_that_they_are_open() {
        let mut seen = quiet();
        let user = seen.user.as_mut().unwrap();
        user.sessions = vec![session(None), session(None)];
        assert_eq!(Sessions.look(&seen), Says::Nothing);
        seen.user.as_mut().unwrap().sessions.push(session(Some("cpu")));
        assert_eq!(Sessions.look(&seen), Says::Now("session (ssh): cpu".into()));
    }

    #[test]
    fn what_they_have_left_running_and_done_counts() {
        let mut seen = quiet();
        assert_eq!((Detached.look(&seen), Last.look(&seen)), (Says::Nothing, Says::Nothing));
        seen.user.as_mut().unwrap().detached = Some("bytes".into());
        assert_eq!(Detached.look(&seen), Says::Now("process: bytes".into()));
        let now = Instant::now();
        seen.last = Some((now, "transfer".into()));
        assert_eq!(Last.look(&seen), Says::At(now, "transfer".into()));
    }
}
