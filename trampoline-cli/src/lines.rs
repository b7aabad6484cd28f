//! What this client and `user-init` say to each other: JSON, a line each.

use contract::exit::Exit;
use contract::places::Container;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};

use crate::context::Context;
use crate::engine::Stream;
use crate::error::{CliError, Result};

/// As a line.
pub(crate) fn written(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)
        .map_err(|error| CliError::new(Exit::Internal, format!("cannot write JSON: {error}")))?;
    line.push(b'\n');
    Ok(line)
}

/// A line, or all that a command said. `what` it is: `the builder's answer`.
pub(crate) fn read<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T> {
    serde_json::from_slice(text)
        .map_err(|error| CliError::other_version(format!("cannot read {what}: {error}")))
}

/// A command in a container that tells of something until that is over.
pub(crate) struct Telling {
    stream: Stream,
    stdout: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    /// What has come of a line whose end has not.
    begun: Vec<u8>,
}

impl Telling {
    /// Starts one in the user container and gives it `input`.
    pub(crate) async fn start(context: &Context, argv: &[&str], input: &[u8]) -> Result<Self> {
        Self::start_in(context, Container::User, argv, input).await
    }

    /// The same in any container.
    pub(crate) async fn start_in(
        context: &Context,
        container: Container,
        argv: &[&str],
        input: &[u8],
    ) -> Result<Self> {
        let mut stream = context.engine.stream(&context.name, container, argv, None).await?;
        // Not closed: that may end both directions. One that ends before it has read this says why by its exit code.
        let _ = stream.stdin.write_all(input).await;
        let _ = stream.stdin.flush().await;
        let stdout = std::mem::replace(&mut stream.stdout, Box::new(tokio::io::empty()));
        Ok(Self { stream, stdout: BufReader::new(stdout), begun: Vec::new() })
    }

    /// The next line; none: it has said its last. Nothing is lost where the wait for it is given up, and a line that was cut
    /// off is none.
    pub(crate) async fn next(&mut self) -> std::io::Result<Option<String>> {
        self.stdout.read_until(b'\n', &mut self.begun).await?;
        if self.begun.pop() != Some(b'\n') {
            return Ok(None);
        }
        let line = String::from_utf8(std::mem::take(&mut self.begun));
        line.map(Some).map_err(|error| std::io::Error::new(std::io::ErrorKind::InvalidData, error))
    }

    /// Its exit code and what it wrote to standard error, once it has ended.
    pub(crate) async fn finish(self) -> Result<(i32, Vec<u8>)> {
        self.stream.finish().await
    }
}
