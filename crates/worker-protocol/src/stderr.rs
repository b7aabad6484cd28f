//! What the daemon says while it works: a stream of messages that ends with "done" or an error. Only then comes the answer.

use std::io::Read;

use crate::error::{DaemonError, Error, Result};
use crate::wire;

const NEXT: u64 = 0x6f6c_6d67;
const READ: u64 = 0x6461_7461;
const WRITE: u64 = 0x6461_7416;
const LAST: u64 = 0x616c_7473;
const ERROR: u64 = 0x6378_7470;
const START_ACTIVITY: u64 = 0x5354_5254;
const STOP_ACTIVITY: u64 = 0x5354_4f50;
const RESULT: u64 = 0x5253_4c54;

/// Fields of an activity or result; Nix sends four at most.
const MAX_FIELDS: u64 = 64;
/// Frames of an error's trace; Nix cuts them far earlier.
const MAX_TRACES: u64 = 1024;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// A line (or some) for a person.
    Line(String),
    /// Something has begun.
    Start {
        /// Names it until [`Message::Stop`].
        id: u64,
        /// Nix's verbosity from which on it is shown: 0 error ... 3 info.
        level: u64,
        /// Nix's `ActivityType`.
        kind: u64,
        /// For a person; often empty.
        text: String,
        /// By `kind`.
        fields: Vec<Field>,
        /// The activity that it belongs to; 0: none.
        parent: u64,
    },
    /// It has ended.
    Stop {
        /// Of [`Message::Start`].
        id: u64,
    },
    /// News of one that goes on.
    Result {
        /// Of [`Message::Start`].
        id: u64,
        /// Nix's `ResultType`.
        kind: u64,
        /// By `kind`.
        fields: Vec<Field>,
    },
}

/// See [`Message`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(u64),
    /// Text.
    Text(String),
}

/// Hands all messages over until the daemon says that the answer follows.
///
/// # Errors
/// Its own refusal as [`Error::Daemon`], behind which the conversation may go on; anything else is the end of it. Requests
/// to read from or write to us belong to operations that are not used here, and are refused.
pub(crate) fn until_last(from: &mut impl Read, minor: u64, each: &mut dyn FnMut(Message)) -> Result<()> {
    loop {
        match wire::read_u64(from)? {
            LAST => return Ok(()),
            ERROR => return Err(Error::Daemon(read_error(from, minor)?)),
            NEXT => each(Message::Line(wire::read_lossy(from, "a message")?)),
            START_ACTIVITY => each(Message::Start {
                id: wire::read_u64(from)?,
                level: wire::read_u64(from)?,
                kind: wire::read_u64(from)?,
                text: wire::read_lossy(from, "an activity")?,
                fields: read_fields(from)?,
                parent: wire::read_u64(from)?,
            }),
            STOP_ACTIVITY => each(Message::Stop { id: wire::read_u64(from)? }),
            RESULT => each(Message::Result {
                id: wire::read_u64(from)?,
                kind: wire::read_u64(from)?,
                fields: read_fields(from)?,
            }),
            value @ (READ | WRITE) => {
                return Err(Error::Unexpected { what: "a request for data, though none was offered", value });
            }
            value => return Err(Error::Unexpected { what: "a kind of message", value }),
        }
    }
}

fn read_fields(from: &mut impl Read) -> Result<Vec<Field>> {
    let count = wire::read_count(from, "fields", MAX_FIELDS)?;
    (0..count)
        .map(|_| match wire::read_u64(from)? {
            0 => Ok(Field::Number(wire::read_u64(from)?)),
            1 => Ok(Field::Text(wire::read_lossy(from, "a field")?)),
            value => Err(Error::Unexpected { what: "a kind of field", value }),
        })
        .collect()
}

fn read_error(from: &mut impl Read, minor: u64) -> Result<DaemonError> {
    if minor < 26 {
        let message = plain(&wire::read_lossy(from, "an error")?);
        // Its exit status, which says nothing more.
        wire::read_u64(from)?;
        return Ok(DaemonError { message, traces: Vec::new() });
    }
    // Type and name ("Error" always, or nearly so) and the level.
    wire::read_lossy(from, "an error's type")?;
    wire::read_u64(from)?;
    wire::read_lossy(from, "an error's name")?;
    let message = plain(&wire::read_lossy(from, "an error")?);
    no_position(from)?;
    let count = wire::read_count(from, "traces", MAX_TRACES)?;
    let mut traces = Vec::new();
    for _ in 0..count {
        no_position(from)?;
        traces.push(plain(&wire::read_lossy(from, "a trace")?));
    }
    Ok(DaemonError { message, traces })
}

/// The protocol has a flag for a position in a file, and no encoding of one: it is always 0.
fn no_position(from: &mut impl Read) -> Result<()> {
    match wire::read_u64(from)? {
        0 => Ok(()),
        value => Err(Error::Unexpected { what: "an error's position", value }),
    }
}

/// Without terminal colours and the like, and without `error: ` at the beginning: whoever shows it says so itself.
pub(crate) fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            // `ESC [ ... LETTER`
            '\u{1b}' => drop(chars.by_ref().find(char::is_ascii_alphabetic)),
            '\n' => plain.push(' '),
            c if c.is_control() => {}
            c => plain.push(c),
        }
    }
    plain.trim().trim_start_matches("error:").trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Request;

    fn run(bytes: &[u8], minor: u64) -> (Result<()>, Vec<Message>) {
        let mut seen = Vec::new();
        let mut from = bytes;
        let result = until_last(&mut from, minor, &mut |m| seen.push(m));
        (result, seen)
    }

    /// One of each kind.
    fn talk() -> Vec<u8> {
        Request::new(NEXT)
            .str("deleting '/nix/store/x'\n")
            .u64(START_ACTIVITY)
            .u64(5)
            .u64(3)
            .u64(103)
            .str("optimising")
            .u64(2)
            .u64(0)
            .u64(17)
            .u64(1)
            .str("field")
            .u64(0)
            .u64(RESULT)
            .u64(5)
            .u64(105)
            .u64(1)
            .u64(0)
            .u64(9)
            .u64(STOP_ACTIVITY)
            .u64(5)
            .u64(LAST)
            .bytes()
            .to_vec()
    }

    fn refusal() -> Request {
        Request::new(ERROR)
            .str("Error")
            .u64(0)
            .str("Error")
            .str("\u{1b}[31;1merror:\u{1b}[0m you are not\nprivileged")
            .u64(0)
            .u64(1)
            .u64(0)
            .str("while \u{1b}[35masking\u{1b}[0m")
    }

    #[test]
    fn all_kinds_are_told_in_order() {
        let (result, seen) = run(&talk(), 35);
        result.unwrap();
        assert_eq!(
            seen,
            [
                Message::Line("deleting '/nix/store/x'\n".into()),
                Message::Start {
                    id: 5,
                    level: 3,
                    kind: 103,
                    text: "optimising".into(),
                    fields: vec![Field::Number(17), Field::Text("field".into())],
                    parent: 0
                },
                Message::Result { id: 5, kind: 105, fields: vec![Field::Number(9)] },
                Message::Stop { id: 5 },
            ]
        );
    }

    #[test]
    fn a_talk_cut_anywhere_is_an_error_and_never_a_panic() {
        let talk = talk();
        for cut in 0..talk.len() {
            assert!(matches!(run(&talk[..cut], 35).0, Err(Error::Io(_))), "{cut}");
        }
        let refusal = refusal().bytes().to_vec();
        for cut in 0..refusal.len() {
            assert!(matches!(run(&refusal[..cut], 35).0, Err(Error::Io(_))), "{cut}");
        }
    }

    #[test]
    fn a_structured_refusal_reads_as_one_line() {
        let Err(Error::Daemon(error)) = run(refusal().bytes(), 35).0 else { panic!() };
        assert_eq!(error.message, "you are not privileged");
        assert_eq!(error.traces, ["while asking"]);
        assert_eq!(Error::Daemon(error).to_string(), "you are not privileged (while asking)");
    }

    #[test]
    fn an_old_refusal_is_understood() {
        let old = Request::new(ERROR).str("no").u64(1);
        let Err(Error::Daemon(error)) = run(old.bytes(), 25).0 else { panic!() };
        assert_eq!((error.message.as_str(), error.traces.len()), ("no", 0));
    }

    #[test]
    fn requests_for_data_and_the_unknown_are_refused() {
        for tag in [READ, WRITE, 0, u64::MAX] {
            let (result, _) = run(Request::new(tag).u64(8).bytes(), 35);
            assert!(matches!(result, Err(Error::Unexpected { value, .. }) if value == tag));
        }
    }

    #[test]
    fn hostile_counts_cost_nothing() {
        let fields = Request::new(RESULT).u64(1).u64(1).u64(u64::MAX);
        assert!(matches!(run(fields.bytes(), 35).0, Err(Error::TooLong { what: "fields", .. })));
        let traces = Request::new(ERROR).str("Error").u64(0).str("Error").str("x").u64(0).u64(u64::MAX);
        assert!(matches!(run(traces.bytes(), 35).0, Err(Error::TooLong { what: "traces", .. })));
    }
}
