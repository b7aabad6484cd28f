//! The container's life: wait for the daemon, measure, collect when it is due, leave when told.

mod due;

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
use contract::handshake::{GcSummary, Life, Phase, Ready, StopEnd, StopPhase, StopRequest, file};
use contract::places::Container;

use crate::link::is_busy;
use crate::metrics::Endpoint;
use crate::once::{stopping, words};
use crate::pressure::{Level, Pressure};
use crate::schedule::Schedule;
use crate::turn::Wanted;
use crate::verify::Due;
use crate::work::{Done, Kind, Work, finished};
use crate::{SCHEDULE, store};

const US: Container = Container::Maintenance;
/// After a daemon that says it is ready did not answer.
const AGAIN: Duration = Duration::from_secs(60);
/// For the thread of a conversation that was cut short.
const LEAVE: Duration = Duration::from_secs(2);
/// Between two looks at how full the volume is, while somebody works. A store that nobody writes does not fill.
const LOOK: Duration = Duration::from_secs(60);

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
    mut schedule: Schedule,
) -> Result<&'static str, Error> {
    schedule.vary(&life.0);
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
            pressure: Pressure::default(),
            link: false,
            verify: Due::default(),
            collecting: SCHEDULE,
            recalled: false,
            told: None,
            full: 0,
            heal_by: None,
            healed: 0,
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
    pressure: Pressure,
    /// Identical files are to be linked when nobody works.
    link: bool,
    /// The next part of the store is to be read then.
    verify: Due,
    /// Why the collection is, that is under way.
    collecting: &'static str,
    /// It is known when it was collected last, also before this life.
    recalled: bool,
    /// How full the volume was when it was told last.
    told: Option<(Level, u64)>,
    /// When a build met its end last: seconds since the epoch.
    full: u64,
    /// It is to be collected for that: at the latest then.
    heal_by: Option<Instant>,
    /// Of which end of the volume a collection was the answer last: seconds since the epoch.
    healed: u64,
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
                        self.config.reload(self.reporter);
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
        for container in Container::ALL {
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
        let busy = is_busy(self.paths, self.life);
        let wanted = Wanted::is(self.paths, self.life);
        if let Some(work) = &self.work {
            // Linking files beside work has a bad record, and the work goes first.
            if matches!(work.kind(), Kind::Optimise | Kind::Verify) && (busy || wanted) {
                self.link |= work.kind() == Kind::Optimise;
                work.cut();
            }
            return None;
        }
        let Some(daemon_now) = ready else {
            self.report(Phase::Starting, "waiting for the daemon");
            return None;
        };
        let stopping = stopping(self.paths, self.life);
        let unknown = self.measured.as_ref() != Some(&daemon_now) || self.gc.is_some();
        if unknown && self.remeasure.is_none_or(|at| now >= at) {
            self.measured = Some(daemon_now);
            self.begin(Kind::Measure);
            return None;
        }
        if self.link && !busy && !wanted && !stopping {
            self.link = false;
            self.begin(Kind::Optimise);
            return None;
        }
        let next = self.due(stopping, busy, now)?;
        let verify =
            self.verify.at(&self.config.config().maintenance, now).filter(|_| !busy && !wanted && !stopping);
        if verify.is_some_and(|at| at <= now) {
            self.begin(Kind::Verify);
            return None;
        }
        self.report(Phase::Running, "watching the store");
        let again = busy.then(|| now + LOOK);
        [next, self.remeasure, again, verify].into_iter().flatten().min()
    }

    fn begin(&mut self, kind: Kind) {
        let words = match kind {
            Kind::Measure => "measuring the store",
            Kind::Collect { .. } => "collecting garbage",
            Kind::Optimise => "linking identical files",
            Kind::Verify => "verifying a part of the store",
        };
        self.report(Phase::Running, words);
        self.work = Some(Work::begin(kind, self.paths, self.life, self.config.config(), self.gc.clone()));
    }

    fn done(&mut self, done: Done) {
        let ended = self.work.take().map(|work| work.kind());
        let now = Instant::now();
        match done {
            Done::Measured(Ok(status), last) => {
                (self.remeasure, self.gc) = (None, None);
                last_words::recovered(self.paths, US);
                tracing::debug!(paths = status.paths, nar_bytes = status.nar_bytes, "measured");
                if let Some(last) = last.filter(|_| !self.recalled) {
                    self.recalled = true;
                    let ago = agent::unix_now().saturating_sub(last);
                    self.schedule.collected(now, Duration::from_secs(ago));
                }
            }
            Done::Measured(Err(error), _) => {
                tracing::warn!("the store is not measured: {}", chain(&error));
                self.measured = None;
                self.remeasure = Some(now + AGAIN);
            }
            Done::Collected(Ok(outcome)) => {
                self.schedule.collected(now, Duration::ZERO);
                let all = ended == Some(Kind::Collect { all: true });
                let level = self.level();
                self.pressure.collected(level, all, now);
                let summary = GcSummary {
                    at: agent::unix_now(),
                    paths: outcome.paths,
                    freed_bytes: outcome.bytes_freed,
                    cause: self.collecting.into(),
                    free_bytes: self.told.map(|(_, free)| free),
                    healed: self.healed,
                    optimised: false,
                    dry_run: false,
                };
                tracing::info!(cause = summary.cause, "{}", words(&summary));
                self.link |= self.config.config().maintenance.optimise;
                self.gc = Some(summary);
            }
            Done::Collected(Err(error)) => {
                tracing::error!("the store is not collected: {}", chain(&error));
                let level = self.level();
                self.pressure.collected(level, false, now);
                if self.collecting == SCHEDULE {
                    self.schedule.failed(now);
                }
            }
            Done::Verified(outcome) => self.verify.ended(&outcome, now),
            Done::Optimised(Ok(())) => {
                let last = self.gc.take().or_else(|| store::published(self.paths, self.life)?.last_gc);
                self.gc = last.map(|gc| GcSummary { optimised: true, ..gc });
            }
            Done::Optimised(Err(error)) => {
                tracing::info!(again = self.link, "identical files are not linked: {}", chain(&error));
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
