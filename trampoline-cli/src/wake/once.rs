//! What must not run twice: a command of the user's. Its exit code does not tell whether it ran, as `ssh` in it ends with 255 as
//! podman does, and anything may end with 75.

use std::fs::File;
use std::io::{self, IsTerminal, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use contract::exit::Exit;
use contract::places::Container;
use contract::session::refusal;
use rustix::fs::FileType;
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use super::again::{Way, back, look};
use crate::context::Context;
use crate::engine::{Entry, Word, handed, may_be_a_refusal};
use crate::error::{CliError, Result, While};

/// Lines at the end of user-init's log, among which it names whom it has refused.
const LOG: u32 = 200;
/// Whatever stands between us and a session has let go of our pipe by then, once the session has ended.
const LET_GO: Duration = Duration::from_secs(5);

/// Runs `user-init session --id ID`, with the options of the entry, to its end; again, once, where it certainly has not run and its
/// input is still there.
pub(crate) async fn session<F>(
    context: &Context,
    id: &str,
    tty: bool,
    mut run: impl FnMut(Entry) -> F,
) -> Result<i32>
where
    F: Future<Output = Result<i32>>,
{
    let input = Input::now();
    if let Attempt::Ended { code, own } = attempt(context, id, tty, &mut run).await? {
        return told(context, code, own).await;
    }
    let refused = |what: &str| {
        CliError::new(
            Exit::Stopping,
            format!("builder {} was stopping and did not run the command{what}", context.name),
        )
        .hint("run it again: that starts the builder")
    };
    if !input.again() {
        return Err(refused(", whose input is gone"));
    }
    back(context).await?;
    match attempt(context, id, tty, &mut run).await? {
        Attempt::Ended { code, own } => told(context, code, own).await,
        Attempt::Refused => Err(refused(", twice")),
    }
}

/// What has come of a command.
enum Attempt {
    /// It has not run.
    Refused,
    /// With this code, which is known to be its own, or may be that of somebody who did not let it run.
    Ended { code: i32, own: bool },
}

async fn attempt<F>(
    context: &Context,
    id: &str,
    tty: bool,
    run: &mut impl FnMut(Entry) -> F,
) -> Result<Attempt>
where
    F: Future<Output = Result<i32>>,
{
    let (mut pipe, mut word) = (None, None);
    let entry = if context.engine.hands_over_files() {
        let (begun, file) = Begun::new().during("cannot make a pipe")?;
        pipe = Some(begun);
        Entry::File(file)
    } else if context.engine.hears(tty) {
        Entry::Word(word.insert(Word::of(id)).clone())
    } else {
        Entry::Unasked
    };
    let code = match run(entry).await {
        // Of an engine that tells: it was not started.
        Err(error) if error.exit == Exit::Stopping => return Ok(Attempt::Refused),
        ended => ended?,
    };
    if !may_be_a_refusal(code) {
        return Ok(Attempt::Ended { code, own: true });
    }
    let begun = match (pipe, word.and_then(|word| word.heard())) {
        (Some(begun), _) => begun.was_told().await,
        (None, None) if code == i32::from(Exit::Stopping.code()) && logged(context, id).await => Some(false),
        (None, heard) => heard,
    };
    Ok(match begun {
        Some(false) => Attempt::Refused,
        begun => Attempt::Ended { code, own: begun.is_some() },
    })
}

/// The code of a command that is not run again, and what there is to say of it.
async fn told(context: &Context, code: i32, own: bool) -> Result<i32> {
    if !own {
        return uncertain(context, code).await;
    }
    // Also that of a command whose container ends.
    if may_be_a_refusal(code) && look(context).await.is_ok_and(|way| !matches!(way, Way::Serves)) {
        context.ui.warn(format!(
            "the command has run, and builder {} stops or has stopped, which may be why it ended with exit code {code}",
            context.name
        ));
    }
    Ok(code)
}

/// A pipe into which a session writes once it is let in.
struct Begun(Receiver);

impl Begun {
    /// Our end, and the one for the session.
    fn new() -> io::Result<(Self, OwnedFd)> {
        let (reader, writer) = io::pipe()?;
        Ok((Self(Receiver::from_owned_fd(reader.into())?), handed(writer, 0o622)?))
    }

    /// Once nobody can write any more; none: somebody still could.
    async fn was_told(mut self) -> Option<bool> {
        let mut word = [0];
        let read = tokio::time::timeout(LET_GO, self.0.read(&mut word)).await;
        read.ok().and_then(io::Result::ok).map(|bytes| bytes > 0)
    }
}

/// The code of a command that is not run again, unless nobody knows whose code it is.
pub(crate) async fn uncertain(context: &Context, code: i32) -> Result<i32> {
    if !may_be_a_refusal(code) || matches!(look(context).await?, Way::Serves) {
        return Ok(code);
    }
    Err(CliError::new(
        Exit::Stopping,
        format!(
            "builder {} stopped meanwhile (exit code {code}): whether the command has run is not known",
            context.name
        ),
    )
    .hint("if it may run twice, run it again: that starts the builder"))
}

/// Whether the builder says of this session that it was not let in. A log that cannot be read says nothing.
async fn logged(context: &Context, id: &str) -> bool {
    let log = context.engine.log_tail(&context.name, Container::User, LOG).await.unwrap_or_default();
    log.contains(&refusal(id))
}

/// Whether a command that has not run can be given the same input again.
pub(super) fn input_stays() -> bool {
    !matches!(Input::now(), Input::Pipe)
}

/// Our standard input, of which an engine may have taken some to a command that has not run.
enum Input {
    /// As good as before: nobody has written it yet, or there is nothing in it.
    Endless,
    /// Is read again from here.
    File(File, u64),
    /// Gone.
    Pipe,
}

impl Input {
    fn now() -> Self {
        let stdin = io::stdin();
        if stdin.is_terminal() {
            return Self::Endless;
        }
        stdin.as_fd().try_clone_to_owned().map_or(Self::Pipe, |fd| Self::of(fd.into()))
    }

    fn of(mut file: File) -> Self {
        let kind = rustix::fs::fstat(&file).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            // `/dev/null`, or whatever else has no end of its own.
            Ok(FileType::CharacterDevice) => Self::Endless,
            Ok(FileType::RegularFile) => match file.stream_position() {
                Ok(at) => Self::File(file, at),
                Err(_) => Self::Pipe,
            },
            _ => Self::Pipe,
        }
    }

    /// Makes it as it was, if that is possible.
    fn again(self) -> bool {
        match self {
            Self::Endless => true,
            Self::File(mut file, at) => file.seek(SeekFrom::Start(at)).is_ok(),
            Self::Pipe => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn only_input_that_is_still_there_is_given_twice() {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(b"once more").expect("writable");
        file.seek(SeekFrom::Start(5)).expect("a file");
        let input = Input::of(file.try_clone().expect("a descriptor"));
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        assert!(input.again());
        file.read_to_string(&mut text).expect("readable");
        assert_eq!(text, "moremore");
        let (reader, _writer) = io::pipe().expect("a pipe");
        assert!(!Input::of(File::from(std::os::fd::OwnedFd::from(reader))).again());
        assert!(Input::of(File::open("/dev/null").expect("is there")).again());
    }

    #[tokio::test]
    async fn a_session_that_has_begun_says_so() {
        let (begun, writer) = Begun::new().expect("a pipe");
        File::from(writer).write_all(&[1]).expect("writable");
        assert_eq!(begun.was_told().await, Some(true));
        let (begun, writer) = Begun::new().expect("a pipe");
        drop(writer);
        assert_eq!(begun.was_told().await, Some(false));
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_still_begin_has_not_been_refused() {
        let (begun, _writer) = Begun::new().expect("a pipe");
        assert_eq!(begun.was_told().await, None);
    }

    #[test]
    fn a_refusal_names_one_session_only() {
        assert!(!"session 1-23 is refused".contains(&refusal("1-2")));
        assert!("INFO session 1-2 is refused".contains(&refusal("1-2")));
    }
}
