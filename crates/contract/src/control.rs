//! What is asked of daemon-init over its control socket: all that needs root on the store volume, as a closed list. A line of JSON
//! asks; lines of JSON answer, the last of them [`Reply::Done`] or [`Reply::Refused`].

use serde::{Deserialize, Serialize};

use crate::damage::{Damaged, Slice};
use crate::exit::Exit;
use crate::places::{MAINTENANCE_UID, MONITOR_UID, USER_UID};
use crate::roots::{NewRoot, Root};

/// Longest line, of a question and of an answer.
pub const LINE_MAX: usize = 64 << 10;

/// What may be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Request {
    /// What keeps store paths from collection. Answered by a [`Reply::Root`] each.
    Roots {
        /// Also what each holds alive, which takes a look at every path that is alive.
        #[serde(default)]
        sizes: bool,
    },
    /// Makes a named root, of a path that is valid. Answered by it as a [`Reply::Root`].
    AddRoot(NewRoot),
    /// How far the store's content was read, in any life. Answered by a [`Reply::Slice`].
    LastSlice,
    /// It was read so far.
    SliceRead(Slice),
    /// Looks whether a valid path is what was registered, and if it is not, fetches it again or removes it. Answered by a
    /// [`Reply::Damaged`] where it was not.
    Repair {
        /// Full store path.
        path: String,
    },
    /// Takes one away.
    RemoveRoot {
        /// Its name.
        name: String,
    },
    /// A collection is about to begin: what is to be no root any more by its age becomes none. Answered by a [`Reply::Root`] for each
    /// such.
    LetGo {
        /// Only say which these are.
        dry_run: bool,
    },
    /// When garbage was collected last, in any life. Answered by a [`Reply::Collected`].
    LastCollection,
    /// It has been collected.
    Collected {
        /// Seconds since the epoch.
        at: u64,
    },
}

impl Request {
    /// User ids that are heard; daemon-init's own is among them in each case.
    #[must_use]
    pub fn admitted(&self) -> &'static [u32] {
        match self {
            Self::Roots { .. } => &[0, USER_UID, MAINTENANCE_UID],
            Self::LastCollection | Self::Collected { .. } => &[0, MAINTENANCE_UID],
            Self::LastSlice | Self::SliceRead(_) | Self::Repair { .. } => &[0, MAINTENANCE_UID],
            Self::LetGo { .. } => &[0, MAINTENANCE_UID],
            Self::AddRoot(_) | Self::RemoveRoot { .. } => &[0],
        }
    }
}

/// Whoever asks for anything at all is one of these.
pub const ASKERS: [u32; 4] = [0, USER_UID, MAINTENANCE_UID, MONITOR_UID];

/// A line of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// It takes a while.
    Progress {
        /// For a person.
        message: String,
    },
    /// See [`Request::LastSlice`].
    Slice(Slice),
    /// It was not what was registered.
    Damaged(Damaged),
    /// One of the roots.
    Root(Root),
    /// See [`Request::LastCollection`]; where there was none yet, when it was asked for first.
    Collected {
        /// Seconds since the epoch.
        at: u64,
    },
    /// That was all.
    Done,
    /// No; or it could not be done.
    Refused {
        /// Why, as a code.
        exit: Exit,
        /// Why, for a person.
        message: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_heard_who_may_not_connect() {
        let new = NewRoot { name: "a".into(), path: "/nix/store".into(), ttl: None };
        let root = Request::RemoveRoot { name: "a".into() };
        let repair = Request::Repair { path: "/nix/store".into() };
        for request in [
            Request::Roots { sizes: true },
            Request::AddRoot(new),
            root,
            Request::LetGo { dry_run: true },
            repair,
        ] {
            let admitted = request.admitted();
            assert!(admitted.contains(&0), "{request:?}");
            assert!(admitted.iter().all(|uid| ASKERS.contains(uid)), "{request:?}");
        }
    }

    #[test]
    fn a_question_of_an_earlier_version_is_understood() {
        let asked: Request = serde_json::from_str(r#"{"ask":"roots"}"#).unwrap();
        assert_eq!(asked, Request::Roots { sizes: false });
    }
}
