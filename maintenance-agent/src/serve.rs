//! The container's life: wait for the daemon, measure, collect when it is due, leave when told.

use std::io;
use std::time::{Duration, Instant};

use agent::config::Watched;
use agent::events::Events;
use agent::paths::Paths;
use agent::signals::{Signal, Signals};
use agent::status::{Reporter, chain};
use agent::wait::Wake;
use agent::{entry, last_words, log, published, ready};
use contract::exit::Exit;
use contract::handshake::{
    DaemonActivity, GcSummary, Life, Phase, Ready, StopEnd, StopPhase, StopRequest, UserActivity, file,
};
use contract::places::Container;

use crate::metrics::Endpoint;
use crate::once::{stopping, words};
use crate::schedule::{Next, Schedule, Situation, busy};
use crate::store;
use crate::work::{Done, Kind, Work, finished};

const US: Container = Container::Maintenance;
/// After a daemon that says it is ready did not answer.
const AGAIN: Duration = Duration::from_secs(60);
/// For the thread of a conversation that was cut short.
const LEAVE: Duration = Duration::from_secs(2);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// `trampoline.toml`.
    #[error(transparent)]
    Config(#[from] agent::config::Error),
    /// The runtime or its events.
    #[error("wait for events")]
    Io(#[from] io::Error),
}

/// Runs until the builder stops or we are asked to leave; a failure waits before it ends (see [`agent::last_words`]).
#[must_use]
pub fn serve(paths: &Paths) -> Exit {
    serve_from(paths, Schedule::default())
}

/// As [`serve`], with a schedule that is counting already.
#[must_use]
pub fn serve_from(paths: &Paths, schedule: Schedule) -> Exit {
    entry::serve(paths, US, env!("CARGO_PKG_VERSION"), |life, signals, reporter| {
        steps(paths, life, signals, reporter, schedule).map(str::to_owned).map_err(|error| {
            let exit = if matches!(error, Error::Config(_)) { Exit::Config } else { Exit::Io };
            (exit, chain(&error))
        })
    })
}

fn steps(
    paths: &Paths,
    life: &Life,
    signals: &Signals,
    reporter: &mut Reporter,
    schedule: Schedule,
) -> Result<&'static str, Error> {
    let config = Watched::load(&paths.config)?;
    log::init(&config.config().log);
    reporter.config(config.digest(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let mut agent = Agent {
            paths,
            life,
            config,
            reporter,
            events: Events::new(signals)?,
            schedule,
            work: None,
            measured: None,
            remeasure: None,
            gc: None,
        };
        agent.run().await
    });
    runtime.shutdown_timeout(LEAVE);
    Ok(ended?)
}

struct Agent<'a> {
    paths: &'a Paths,
    life: &'a Life,
    config: Watched,
    reporter: &'a mut Reporter,
    events: Events<'a>,
    schedule: Schedule,
    /// What is under way.
    work: Option<Work>,
    /// The daemon whose store was measured.
    measured: Option<Ready>,
    /// When to try that again, after a failure.
    remeasure: Option<Instant>,
    /// A collection of ours that is not published yet.
    gc: Option<GcSummary>,
}

impl Agent<'_> {
    async fn run(&mut self) -> io::Result<&'static str> {
        let listen = self.config.config().metrics.listen.clone();
        let metrics = Endpoint::open(self.paths, self.life, listen.as_deref()).await;
        loop {
            self.watch_folders()?;
            metrics.iter().for_each(Endpoint::look);
            match self.final_stop() {
                Some(StopEnd::Leave) => {
                    self.cut();
                    return Ok("the builder was told to stop");
                }
                // The engine's signal comes.
                Some(StopEnd::AwaitSignal) => self.cut(),
                None => {}
            }
            let deadline = self.look();
            tokio::select! {
                biased;
                wake = self.events.next(deadline) => match wake? {
                    Wake::Signals(seen) if seen.contains(&Signal::Terminate) => {
                        self.cut();
                        return Ok("asked to leave");
                    }
                    Wake::Signals(_) | Wake::Changed => {
                        if self.config.reload(self.reporter) {
                        }
                    }
                    Wake::Deadline | Wake::Fd(_) => {}
                },
                done = finished(self.work.as_mut()) => self.done(done),
            }
        }
    }

    /// Folders that are made later than we start are added as soon as they are there: their parent is watched.
    fn watch_folders(&mut self) -> io::Result<()> {
        self.events.watch_dir_if_there(&self.paths.run)?;
        for container in [Container::Daemon, Container::User, Container::ShutdownMonitor] {
            self.events.watch_dir_if_there(&self.paths.run_dir(container))?;
        }
        if let Some(dir) = self.paths.config.parent() {
            self.events.watch_dir_if_there(dir)?;
        }
        Ok(())
    }

    /// How it ends, once nothing is taken any more.
    fn final_stop(&self) -> Option<StopEnd> {
        let stop =
            published::read::<StopRequest>(self.paths, self.life, Container::ShutdownMonitor, file::STOP);
        stop.filter(|stop| stop.phase == StopPhase::Final).map(|stop| stop.end)
    }

    fn cut(&self) {
        if let Some(work) = &self.work {
            work.cut();
        }
    }

    /// Begins what is to be done now; returns when to look again even if nothing changes.
    fn look(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let ready = ready::published(self.paths, self.life);
        let daemon: Option<DaemonActivity> =
            published::read(self.paths, self.life, Container::Daemon, file::ACTIVITY);
        let user: Option<UserActivity> =
            published::read(self.paths, self.life, Container::User, file::ACTIVITY);
        let building = daemon.as_ref().is_none_or(|d| d.builds > 0);
        if let Some(work) = &self.work {
            // Linking files under a running build has a bad record.
            if work.kind() == Kind::Optimise && building {
                work.cut();
            }
            return None;
        }
        let Some(daemon_now) = ready else {
            self.report(Phase::Starting, "waiting for the daemon");
            return None;
        };
        if self.measured.as_ref() != Some(&daemon_now) && self.remeasure.is_none_or(|at| now >= at) {
            self.measured = Some(daemon_now);
            self.begin(Kind::Measure);
            return None;
        }
        let situation = Situation {
            ready: true,
            stopping: stopping(self.paths, self.life),
            busy: busy(daemon.as_ref(), user.as_ref()),
            interval: self.config.config().maintenance.interval,
        };
        let mut next = self.schedule.next(situation, now);
        if next == Next::Now && self.collected_elsewhere(now) {
            next = self.schedule.next(situation, now);
        }
        let at = match next {
            Next::Now => {
                self.begin(Kind::Collect);
                return None;
            }
            Next::At(at) => Some(at),
            Next::OnChange => None,
        };
        self.report(Phase::Running, "watching the store");
        [at, self.remeasure].into_iter().flatten().min()
    }

    /// A collection that was asked for counts as well. It left its summary, with the wall clock's time: its age is all that is
    /// taken from it, and only if it can be true.
    fn collected_elsewhere(&mut self, now: Instant) -> bool {
        let Some(last) = store::published(self.paths, self.life).and_then(|s| s.last_gc) else {
            return false;
        };
        let Some(ago) = agent::unix_now().checked_sub(last.at) else { return false };
        let asked = last.cause == "asked" && now.checked_sub(Duration::from_secs(ago)).is_some();
        if asked {
            self.schedule.collected(now, Duration::from_secs(ago));
        }
        asked
    }

    fn begin(&mut self, kind: Kind) {
        let words = match kind {
            Kind::Measure => "measuring the store",
            Kind::Collect => "collecting garbage",
            Kind::Optimise => "linking identical files",
        };
        self.report(Phase::Running, words);
        self.work = Some(Work::begin(kind, self.paths, self.life, self.gc.clone()));
    }

    fn done(&mut self, done: Done) {
        self.work = None;
        match done {
            Done::Measured(Ok(status)) => {
                (self.remeasure, self.gc) = (None, None);
                last_words::recovered(self.paths, US);
                tracing::debug!(paths = status.paths, nar_bytes = status.nar_bytes, "measured");
            }
            Done::Measured(Err(error)) => {
                tracing::warn!("the store is not measured: {}", chain(&error));
                self.measured = None;
                self.remeasure = Some(Instant::now() + AGAIN);
            }
            Done::Collected(Ok(outcome)) => {
                self.schedule.collected(Instant::now(), Duration::ZERO);
                let summary = GcSummary {
                    at: agent::unix_now(),
                    paths: outcome.paths,
                    freed_bytes: outcome.bytes_freed,
                    optimised: false,
                    dry_run: false,
                    cause: "schedule".into(),
                };
                tracing::info!("{}", words(&summary));
                self.gc = Some(summary);
                let wanted = self.config.config().maintenance.optimise && !stopping(self.paths, self.life);
                self.begin(if wanted { Kind::Optimise } else { Kind::Measure });
            }
            Done::Collected(Err(error)) => {
                tracing::error!("the store is not collected: {}", chain(&error));
                self.schedule.failed(Instant::now());
            }
            Done::Optimised(result) => {
                match result {
                    Ok(()) => self.gc.iter_mut().for_each(|gc| gc.optimised = true),
                    Err(error) => tracing::info!("identical files are not linked: {}", chain(&error)),
                }
                self.begin(Kind::Measure);
            }
        }
    }

    fn report(&mut self, phase: Phase, words: &str) {
        let status = self.reporter.status();
        if status.message != words || status.phase != phase {
            self.reporter.phase(phase, words);
        }
    }
}
