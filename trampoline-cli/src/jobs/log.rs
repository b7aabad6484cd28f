//! A job's log by offset, over as many connections as it takes: no byte is lost where one breaks, and none comes twice.

use std::time::{Duration, Instant};

use contract::base64;
use contract::exit::Exit;
use contract::job::{FollowEvent, JobEnd};
use contract::places::USER_INIT;

use super::gone;
use crate::context::Context;
use crate::engine::PodPhase;
use crate::error::{CliError, Result};
use crate::lines::{self, Telling};
use crate::remote;
use crate::wake;

/// So long without a byte from the builder is enough: an API server that starts again takes less.
const PATIENCE: Duration = Duration::from_secs(120);
/// Before the first try to connect again; each further one waits twice as long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest of these.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What carried the connection has so long to say why it broke.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// What comes next.
pub(crate) enum Piece {
    /// Of the log, as it stands there.
    Bytes(Vec<u8>),
    /// The log has no more so far.
    SoFar,
    /// The job has ended.
    End(JobEnd),
}

/// See the module.
pub(crate) struct Log<'a> {
    context: &'a Context,
    id: String,
    /// Byte behind all that was given.
    next: u64,
    wait: bool,
    connection: Option<Telling>,
    outage: Option<Outage>,
}

/// A connection broke, and none has told anything since.
struct Outage {
    since: Instant,
    tries: u32,
    /// The person was told.
    told: bool,
}

impl<'a> Log<'a> {
    /// From the beginning. With `wait` to the job's end, else as far as it goes now.
    pub(crate) fn of(context: &'a Context, id: &str, wait: bool) -> Self {
        Self { context, id: id.to_owned(), next: 0, wait, connection: None, outage: None }
    }

    /// The same, by a connection that is there.
    pub(crate) fn begun(context: &'a Context, id: &str, connection: Telling) -> Self {
        Self { connection: Some(connection), ..Self::of(context, id, true) }
    }

    /// Bytes given so far.
    pub(crate) fn offset(&self) -> u64 {
        self.next
    }

    /// The key that interrupts us has reached what the engine runs for us, too: nobody need hear of a lost connection.
    pub(crate) fn interrupted(&mut self) {
        self.connection = None;
        self.outage = Some(Outage { since: Instant::now(), tries: 0, told: true });
    }

    /// The next piece. Nothing is lost where the wait for it is given up.
    pub(crate) async fn next(&mut self) -> Result<Piece> {
        loop {
            let Some(connection) = &mut self.connection else {
                self.connect().await?;
                continue;
            };
            if let Ok(Some(line)) = connection.next().await {
                self.outage = None;
                return self.take(&line);
            }
            self.broken();
            let Some(connection) = self.connection.take() else { continue };
            let ended = tokio::time::timeout(LAST_WORDS, connection.finish()).await;
            if let Ok(Ok((code, words))) = ended {
                // It says so itself, or speaks another language.
                if matches!(Exit::from_code(code), Some(Exit::Usage | Exit::NoPermission)) {
                    return Err(remote::failed_with("cannot follow the build", code, &words));
                }
            }
        }
    }

    fn take(&mut self, line: &str) -> Result<Piece> {
        let (bytes, next) = match lines::read(line.as_bytes(), "the build's log")? {
            FollowEvent::Log { text, next } => (text.into_bytes(), next),
            FollowEvent::Bytes { base64, next } => (base64::decode(&base64).unwrap_or_default(), next),
            FollowEvent::SoFar => return Ok(Piece::SoFar),
            FollowEvent::End(end) => return Ok(Piece::End(end)),
        };
        if self.next + bytes.len() as u64 != next {
            return Err(CliError::new(
                Exit::Internal,
                format!("the log of build {} does not go on at byte {}", self.id, self.next),
            ));
        }
        self.next = next;
        Ok(Piece::Bytes(bytes))
    }

    fn broken(&mut self) {
        self.outage.get_or_insert(Outage { since: Instant::now(), tries: 0, told: false });
    }

    async fn connect(&mut self) -> Result<()> {
        if let Some(outage) = &mut self.outage {
            let pause = PAUSE.saturating_mul(1 << outage.tries.min(8)).min(PAUSE_MAX);
            tokio::time::sleep(pause).await;
            outage.tries += 1;
            if !outage.told {
                outage.told = true;
                self.context.ui.say("the connection to the builder was lost; following again");
            }
            if outage.since.elapsed() >= PATIENCE {
                let seconds = PATIENCE.as_secs();
                let what =
                    format!("the builder was out of reach for {seconds} s; build {} goes on there", self.id);
                let hint =
                    format!("`trampoline-cli attach {}` follows it when the builder can be reached", self.id);
                return Err(CliError::new(Exit::Engine, what).hint(hint));
            }
            self.look().await?;
        }
        let from = self.next.to_string();
        let mut argv = vec![USER_INIT, "job", "follow", &self.id];
        argv.extend((!self.wait).then_some("--now"));
        argv.extend(["--from", &from]);
        match Telling::start(self.context, &argv, &[]).await {
            Ok(connection) => self.connection = Some(connection),
            // What passes, and what comes of an engine that is out of reach.
            Err(error) if matches!(error.exit, Exit::Io | Exit::Stopping | Exit::Engine | Exit::Deadline) => {
                self.context.ui.detail(format!("cannot follow yet: {error}"));
                self.broken();
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether there is still something to connect to.
    async fn look(&self) -> Result<()> {
        let context = self.context;
        let observed = match context.engine.observe(&context.name).await {
            Ok(observed) => observed,
            // As far out of reach as the builder.
            Err(error) => {
                context.ui.detail(format!("cannot look for the builder yet: {error}"));
                return Ok(());
            }
        };
        if let Some(error) = gone(context, &observed, &self.id) {
            return Err(error);
        }
        if observed.phase() == PodPhase::Starting {
            // Its pod was made again, without us.
            wake::ready(context, &format!("waiting for builder {}", context.name)).await?;
        }
        Ok(())
    }
}
