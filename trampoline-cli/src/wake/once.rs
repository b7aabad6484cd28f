//! What must not run twice: a command of the user's. Its exit code does not tell whether it ran, as `ssh` in it ends with 255 as
//! podman does, and anything may end with 75.

use std::fs::File;
use std::io::{self, IsTerminal, Seek, SeekFrom};
use std::os::fd::AsFd;

use contract::exit::Exit;
use contract::places::Container;
use contract::session::refusal;
use rustix::fs::FileType;

use super::again::{Way, back, look, may_be_a_refusal};
use crate::context::Context;
use crate::error::{CliError, Result};

/// Lines at the end of user-init's log, among which it names whom it has refused.
const LOG: u32 = 200;

/// Runs `user-init session --id ID` to its end; again, once, where it certainly has not run and its input is still there.
pub(crate) async fn session<F>(context: &Context, id: &str, mut run: impl FnMut() -> F) -> Result<i32>
where
    F: Future<Output = Result<i32>>,
{
    let input = Input::now();
    match run().await {
        // Of an engine that tells: it was not started.
        Err(error) if error.exit == Exit::Stopping => {
            if !input.again() {
                return Err(error);
            }
            back(context).await?;
            run().await
        }
        Ok(code) if code == i32::from(Exit::Stopping.code()) && refused(context, id).await => {
            if !input.again() {
                return Err(CliError::new(
                    Exit::Stopping,
                    format!(
                        "builder {} was stopping and did not run the command, whose input is gone",
                        context.name
                    ),
                )
                .hint("run it again: that starts the builder"));
            }
            back(context).await?;
            run().await
        }
        ended => uncertain(context, ended?).await,
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
async fn refused(context: &Context, id: &str) -> bool {
    let log = context.engine.log_tail(&context.name, Container::User, LOG).await.unwrap_or_default();
    log.contains(&refusal(id))
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

    #[test]
    fn a_refusal_names_one_session_only() {
        assert!(!"session 1-23 is refused".contains(&refusal("1-2")));
        assert!("INFO session 1-2 is refused".contains(&refusal("1-2")));
    }
}
