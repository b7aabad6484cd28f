//! From a question to what does it.

use std::io;

use agent::control::Answer;
use agent::status::chain;
use contract::control::{Reply, Request};
use contract::exit::Exit;

use super::Desk;
use crate::roots;

/// What is said instead of an answer.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// As a code.
    pub(crate) exit: Exit,
    /// For a person.
    pub(crate) message: String,
}

impl From<roots::Error> for Refusal {
    fn from(error: roots::Error) -> Self {
        Self { exit: error.exit(), message: chain(&error) }
    }
}

impl From<io::Error> for Refusal {
    /// Whoever asked is gone.
    fn from(error: io::Error) -> Self {
        Self { exit: Exit::Io, message: error.to_string() }
    }
}

/// To the end: its last line says whether it was done.
pub(super) fn answer(desk: &Desk, request: Request, to: &Answer) {
    let last = match answered(desk, request, to) {
        Ok(()) => Reply::Done,
        Err(Refusal { exit, message }) => Reply::Refused { exit, message },
    };
    if let Err(error) = to.say(&last) {
        tracing::debug!(%error, ?last, "whoever asked is gone");
    }
}

fn answered(desk: &Desk, request: Request, to: &Answer) -> Result<(), Refusal> {
    match request {
        Request::Roots { sizes: _ } => {
            for root in roots::list(&desk.paths)? {
                to.say(&Reply::Root(root))?;
            }
            Ok(())
        }
    }
}
