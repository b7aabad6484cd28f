//! The client's side of `user-init receive`: a tree on its way. See [`contract::tree`].

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::job::{Generation, PushAnswer, PushHeader};
use contract::places::{Container, USER_INIT};
use tokio::io::{AsyncBufReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::runtime::Handle;

use crate::context::Context;
use crate::engine::{Stream, handed};
use crate::error::{CliError, Result, While};
use crate::git::{Sink, Stopped, Tree};
use crate::lines;
use crate::remote;
use crate::wake;

/// Bytes that are in flight at once, where an engine carries them; also what a pipe may hold without privilege.
const PART: usize = 1 << 20;
/// Of zstd. Through a cluster each byte costs more time than this saves anywhere else.
const LEVEL: i32 = 1;
/// A receiver that hears nothing gives up after two minutes; git may take longer to list a tree.
const PATIENCE: Duration = Duration::from_secs(100);
/// After a connection that broke.
const AGAIN: &str = "what was pushed before is as it was: push again";

/// A tree that has arrived.
pub(crate) struct Pushed {
    /// As the builder has it now.
    pub(crate) generation: Generation,
    /// Files whose content was sent.
    pub(crate) files: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
}

/// `user-init receive`, waiting for a tree.
pub(crate) struct Receiver {
    stream: Stream,
    channel: Channel,
    since: Instant,
}

/// How bytes reach it.
enum Channel {
    /// A pipe that it reads itself.
    Pipe(File),
    /// Its standard input, which the engine carries.
    Carried(Carried),
    /// Nobody reads any more.
    Gone,
}

/// Written from threads that may block.
struct Carried {
    stdin: Box<dyn AsyncWrite + Send + Unpin>,
    runtime: Handle,
}

impl Write for Carried {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.runtime.block_on(self.stdin.write(buffer))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.runtime.block_on(self.stdin.flush())
    }
}

impl<W: Write> Sink for io::BufWriter<W> {
    fn file(&mut self, from: &File, length: u64) -> io::Result<u64> {
        io::copy(&mut io::Read::take(from, length), self)
    }
}

/// Starts one. Where that is cheap to find out by trying, the builder may not run yet.
pub(crate) async fn receiver(context: &Context) -> Result<Receiver> {
    let engine = &context.engine;
    let since = Instant::now();
    if engine.hands_over_files() {
        let (file, pipe) = pipe().during("cannot make a pipe")?;
        let argv = [USER_INIT, "receive", "--fd", "3"];
        let stream = engine.stream(&context.name, Container::User, &argv, Some(file)).await?;
        return Ok(Receiver { stream, channel: Channel::Pipe(pipe), since });
    }
    wake::running(context).await?;
    let mut stream = engine.stream(&context.name, Container::User, &[USER_INIT, "receive"], None).await?;
    let stdin = std::mem::replace(&mut stream.stdin, Box::new(tokio::io::sink()));
    let channel = Channel::Carried(Carried { stdin, runtime: Handle::current() });
    Ok(Receiver { stream, channel, since })
}

fn pipe() -> io::Result<(OwnedFd, File)> {
    let (reader, writer) = io::pipe()?;
    let reader = handed(reader, 0o444)?;
    // Fewer turns between the two ends; a smaller pipe works as well.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&writer, PART);
    Ok((reader, File::from(OwnedFd::from(writer))))
}

impl Receiver {
    /// Whether content travels packed. A pipe is faster than any packing.
    pub(crate) fn packs(&self) -> bool {
        matches!(self.channel, Channel::Carried(_))
    }
}

/// Sends what the builder lacks of a tree. A receiver that only came too early or too late is started again, once.
pub(crate) async fn push(
    context: &Context,
    first: Receiver,
    tree: &Arc<Tree>,
    header: &PushHeader,
    manifest: &[u8],
) -> Result<Pushed> {
    let first = if first.since.elapsed() < PATIENCE { first } else { receiver(context).await? };
    let mut ended = match exchange(context, first, tree, header, manifest).await? {
        Ended::Pushed(pushed) => return Ok(pushed),
        Ended::Refused(code, words) => (code, words),
    };
    if wake::again(context, ended.0).await? {
        ended = match exchange(context, receiver(context).await?, tree, header, manifest).await? {
            Ended::Pushed(pushed) => return Ok(pushed),
            Ended::Refused(code, words) => (code, words),
        };
    }
    let (code, words) = ended;
    if matches!(code, 125 | 255) && !context.engine.observe(&context.name).await?.exists() {
        return Err(wake::absent(context));
    }
    Err(remote::failed_with("the builder did not take the tree", code, &words))
}

enum Ended {
    Pushed(Pushed),
    /// Exit code and standard error.
    Refused(i32, Vec<u8>),
}

async fn exchange(
    context: &Context,
    receiver: Receiver,
    tree: &Arc<Tree>,
    header: &PushHeader,
    manifest: &[u8],
) -> Result<Ended> {
    let Receiver { mut stream, mut channel, .. } = receiver;
    let mut beginning = lines::written(header)?;
    beginning.extend_from_slice(manifest);
    channel = blocking(channel, move |sink| sink.all(&beginning).map_err(Stopped::Sink)).await?;
    let mut answers = BufReader::new(std::mem::replace(&mut stream.stdout, Box::new(tokio::io::empty())));
    let (mut done, mut asked, mut files, mut bytes) = (None, false, 0, 0);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = answers.read_until(b'\n', &mut line).await.during("cannot read from the builder");
        if read.map_err(|error| error.hint(AGAIN))? == 0 {
            break;
        }
        match lines::read(&line, "the builder's answer")? {
            PushAnswer::Done(generation) => done = Some(generation),
            PushAnswer::Send { files: wanted, zstd } => {
                // What is asked for a second time was changed while it was sent.
                let certain = std::mem::replace(&mut asked, true);
                let step = context.ui.step(format!("sending {}", header.label));
                let (tree, total) = (Arc::clone(tree), wanted.len() as u64);
                let (report, sent) = std::sync::mpsc::channel();
                channel = blocking(channel, move |sink| {
                    let mut last = (0, 0);
                    let sent =
                        sink.send(&tree, &Wanted { files: &wanted, certain, zstd }, &mut |count, bytes| {
                            last = (count, bytes);
                            step.shows(&format!("{count} of {total} files"));
                        });
                    step.clear();
                    // Received below, in any case.
                    let _ = report.send(last);
                    sent
                })
                .await?;
                let (more_files, more_bytes) = sent.recv().unwrap_or_default();
                files += more_files;
                bytes += more_bytes;
            }
        }
    }
    drop(channel);
    let (code, words) = stream.finish().await?;
    Ok(match done {
        Some(generation) if code == 0 => Ended::Pushed(Pushed { generation, files, bytes }),
        _ => Ended::Refused(code, words),
    })
}

/// What the receiver asks for.
struct Wanted<'a> {
    files: &'a [u32],
    /// See [`Tree::send`].
    certain: bool,
    zstd: bool,
}

impl Channel {
    fn all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pipe(pipe) => pipe.write_all(bytes),
            Self::Carried(carried) => carried.write_all(bytes).and_then(|()| carried.flush()),
            Self::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    fn send(
        &mut self,
        tree: &Tree,
        &Wanted { files, certain, zstd }: &Wanted<'_>,
        sent: &mut impl FnMut(u64, u64),
    ) -> std::result::Result<(), Stopped> {
        match std::mem::replace(self, Self::Gone) {
            Self::Pipe(mut pipe) => {
                tree.send(files, certain, &mut pipe, sent)?;
                *self = Self::Pipe(pipe);
            }
            Self::Carried(carried) if zstd => {
                let packed = zstd::Encoder::new(carried, LEVEL).map_err(Stopped::Sink)?;
                let packed = buffered(packed, |sink| tree.send(files, certain, sink, sent))?;
                *self = Self::Carried(packed.finish().map_err(Stopped::Sink)?);
            }
            Self::Carried(carried) => {
                *self = Self::Carried(buffered(carried, |sink| tree.send(files, certain, sink, sent))?);
            }
            Self::Gone => return Err(Stopped::Sink(io::ErrorKind::BrokenPipe.into())),
        }
        Ok(())
    }
}

/// Writes large parts.
fn buffered<W: Write>(
    to: W,
    write: impl FnOnce(&mut io::BufWriter<W>) -> std::result::Result<(), Stopped>,
) -> std::result::Result<W, Stopped> {
    let mut buffered = io::BufWriter::with_capacity(PART, to);
    write(&mut buffered)?;
    buffered.into_inner().map_err(|error| Stopped::Sink(error.into_error()))
}

/// Writes on a thread that may block. A receiver that refuses says why by its exit code: a broken pipe is only the
/// consequence.
async fn blocking(
    mut channel: Channel,
    write: impl FnOnce(&mut Channel) -> std::result::Result<(), Stopped> + Send + 'static,
) -> Result<Channel> {
    let (channel, written) = tokio::task::spawn_blocking(move || {
        let written = write(&mut channel);
        (channel, written)
    })
    .await
    .map_err(|error| CliError::new(Exit::Internal, format!("cannot send the tree: {error}")))?;
    match written {
        Ok(()) => Ok(channel),
        Err(Stopped::Sink(_)) => Ok(Channel::Gone),
        Err(Stopped::Ours(error)) => Err(error),
    }
}
