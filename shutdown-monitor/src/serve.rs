//! The real world: files on the run volume, the clock, the configuration, signals.

use std::io;
use std::time::{Duration, Instant};

use agent::config::Watched;
use agent::events::Events;
use agent::files;
use agent::paths::Paths;
use agent::signals::{Signal, Signals};
use agent::status::{Reporter, chain};
use agent::wait::Wake;
use agent::{entry, last_words, log, published};
use contract::exit::Exit;
use contract::handshake::{
    AgentStatus, IdleStatus, Life, Moment, Phase, StopEnd, StopRequest, UserActivity, file,
};
use contract::places::Container;

use crate::cluster::Cluster;
use crate::cluster::api::{Api, Incomplete};
use crate::engine::{Answer, Call, Refusal};
use crate::judge::Seen;
use crate::keeps;
use crate::watch::{Ended, Woken, World, watch};

const US: Container = Container::ShutdownMonitor;
/// For the last words to the API server, while the engine waits for us to leave. Signals do not cut them short: `down --now` sends
/// another one within the time that they take on a busy node, and they are what says tomorrow why the builder stopped.
const FAREWELL: Duration = Duration::from_secs(8);

/// A step that failed.
#[derive(Debug, thiserror::Error)]
enum Error {
    /// `trampoline.toml`.
    #[error(transparent)]
    Config(#[from] agent::config::Error),
    /// The runtime, events, or a request that could not be written.
    #[error("watch the builder")]
    Io(#[from] io::Error),
}

/// Runs until the builder is stopped or we are asked to leave; a failure waits before it ends (see [`agent::last_words`]).
#[must_use]
pub fn serve(paths: &Paths) -> Exit {
    entry::serve(paths, US, env!("CARGO_PKG_VERSION"), |life, signals, reporter| {
        match steps(paths, life, signals, reporter) {
            Ok(Ended::Stopped) => Ok("the builder was told to stop".to_owned()),
            Ok(Ended::Asked) => Ok("asked to leave".to_owned()),
            Err(error) => {
                let exit = if matches!(error, Error::Config(_)) { Exit::Config } else { Exit::Io };
                Err((exit, chain(&error)))
            }
        }
    })
}

fn steps(paths: &Paths, life: &Life, signals: &Signals, reporter: &mut Reporter) -> Result<Ended, Error> {
    let config = Watched::load(&paths.config)?;
    log::init(&config.config().log);
    reporter.config(config.digest(), None);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(async {
        let engine = engine(Api::of_this_pod());
        let mut world =
            Pod { paths, life, config, reporter, events: Events::new(signals)?, engine, trouble: None };
        world.watch_folders()?;
        let ended = watch(&mut world, life).await?;
        world.farewell().await?;
        Ok::<_, io::Error>(ended)
    })?)
}

/// Who ends a builder that stops.
enum Engine {
    /// Nobody: the agents leave.
    Agents,
    /// The cluster.
    Cluster(Box<Cluster>),
    /// A cluster that cannot be asked: the builder stays, and says why whenever it would stop.
    Unknown {
        /// For a person.
        why: String,
        /// It was asked all the same.
        asked: bool,
    },
}

fn engine(api: Option<Result<Api, Incomplete>>) -> Engine {
    match api {
        None => Engine::Agents,
        Some(Ok(api)) => Engine::Cluster(Box::new(Cluster::new(api))),
        Some(Err(error)) => Engine::Unknown { why: chain(&error), asked: false },
    }
}

struct Pod<'a> {
    paths: &'a Paths,
    life: &'a Life,
    config: Watched,
    reporter: &'a mut Reporter,
    events: Events<'a>,
    engine: Engine,
    /// Why the engine does not stop the builder.
    trouble: Option<String>,
}

impl Pod<'_> {
    /// Folders that are made later than we start are added as soon as they are there: their parent is watched.
    fn watch_folders(&mut self) -> io::Result<()> {
        self.events.watch_dir_if_there(&self.paths.run)?;
        let store = matches!(self.engine, Engine::Cluster(_)).then_some(Container::Maintenance);
        for container in [Container::Daemon, Container::User].into_iter().chain(store) {
            self.events.watch_dir_if_there(&self.paths.run_dir(container))?;
        }
        if let Some(dir) = self.paths.config.parent() {
            self.events.watch_dir_if_there(dir)?;
        }
        Ok(())
    }

    /// Where the builder stands, and what stands against its stopping.
    fn report(&mut self, ready: bool) {
        let not_written = match &self.engine {
            Engine::Cluster(cluster) => cluster.trouble(),
            _ => None,
        };
        let mut words = if ready { "watching for idleness" } else { "waiting for the daemon" }.to_owned();
        let troubles =
            [("cannot stop the builder", self.trouble.as_deref()), ("cannot tell the cluster", not_written)];
        for (what, why) in troubles {
            if let Some(why) = why {
                words.push_str(&format!("; {what}: {why}"));
            }
        }
        let phase = if ready { Phase::Running } else { Phase::Starting };
        if self.reporter.status().message != words || self.reporter.status().phase != phase {
            self.reporter.phase(phase, words);
            if ready {
                last_words::recovered(self.paths, US);
            }
        }
    }

    /// Asked to leave in a cluster: why, for those who ask tomorrow.
    async fn farewell(&mut self) -> io::Result<()> {
        let Engine::Cluster(cluster) = &mut self.engine else { return Ok(()) };
        let builder = published::status(self.paths, self.life, None);
        let deadline = Some(Instant::now() + FAREWELL);
        let told = cluster.farewell(builder, self.trouble.as_deref());
        tokio::pin!(told);
        loop {
            tokio::select! {
                biased;
                done = &mut told => {
                    if let Err(error) = done {
                        tracing::warn!("the cluster is not told why the builder stops: {}", chain(&error));
                    }
                    return Ok(());
                }
                wake = self.events.next(deadline) => if wake? == Wake::Deadline {
                    return Ok(());
                },
            }
        }
    }
}

impl World for Pod<'_> {
    fn end(&self) -> StopEnd {
        if matches!(self.engine, Engine::Agents) { StopEnd::Leave } else { StopEnd::AwaitSignal }
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> u64 {
        agent::unix_now()
    }

    fn look(&mut self) -> Seen {
        let ready = agent::ready::published(self.paths, self.life);
        self.report(ready.is_some());
        let user: Option<UserActivity> =
            published::read(self.paths, self.life, Container::User, file::ACTIVITY);
        let agent: Option<AgentStatus> =
            published::read(self.paths, self.life, Container::User, file::STATUS);
        let (now, nanoseconds) = (Instant::now(), self.nanoseconds());
        let at = |moment: &Moment| {
            // Nothing lies ahead, whatever is published.
            let ago = Duration::from_nanos(nanoseconds.saturating_sub(moment.at));
            now.checked_sub(ago).map(|at| (at, moment.source.clone()))
        };
        let hold = user.as_ref().and_then(|user| user.hold.as_ref());
        Seen {
            ready: ready.is_some(),
            daemon_since: ready.map_or(0, |ready| ready.start_time),
            user_serves: agent.is_some_and(|a| matches!(a.phase, Phase::Running | Phase::Draining)),
            daemon: published::read(self.paths, self.life, Container::Daemon, file::ACTIVITY),
            last: user.as_ref().and_then(|user| user.last.as_ref()).and_then(at),
            keeps: keeps::all(hold, &self.config.config().shutdown, now, nanoseconds, self.wall()),
            user,
            daemon_ack: published::read(self.paths, self.life, Container::Daemon, file::ACK),
            user_ack: published::read(self.paths, self.life, Container::User, file::ACK),
            idle_timeout: self.config.config().shutdown.idle_timeout,
        }
    }

    fn nanoseconds(&self) -> u64 {
        // A kernel without this clock could not run us either.
        agent::in_use::now().unwrap_or_default()
    }

    fn former_idle(&mut self) -> Option<IdleStatus> {
        published::read(self.paths, self.life, US, file::IDLE)
    }

    fn former_request(&mut self) -> Option<StopRequest> {
        published::read(self.paths, self.life, US, file::STOP)
    }

    fn request(&mut self, request: &StopRequest) -> io::Result<()> {
        tracing::info!(generation = request.generation, reason = request.reason, "stop: {:?}", request.phase);
        files::write_json(&self.paths.run_dir(US), file::STOP, request).map_err(io::Error::other)?;
        if let Engine::Cluster(cluster) = &mut self.engine {
            cluster.requested(request);
        }
        Ok(())
    }

    fn show(&mut self, idle: &IdleStatus) {
        if let Err(error) = files::write_json(&self.paths.run_dir(US), file::IDLE, idle) {
            tracing::debug!("{}", chain(&error));
        }
    }

    fn note(&mut self, text: &str) {
        tracing::info!("staying: {text}");
    }

    fn trouble(&mut self, why: Option<&str>) {
        self.trouble = why.map(str::to_owned);
        if let Some(why) = why {
            tracing::error!("the builder cannot be stopped: {why}");
        }
    }

    fn call(&mut self, call: Call) {
        match &mut self.engine {
            Engine::Cluster(cluster) => cluster.call(call),
            Engine::Unknown { asked, .. } => *asked = true,
            Engine::Agents => {}
        }
    }

    async fn wait(&mut self, until: Option<Instant>) -> io::Result<Woken> {
        let wake = match &mut self.engine {
            Engine::Unknown { why, asked } if *asked => {
                *asked = false;
                return Ok(Woken::Answer(Answer::Scale(Err(Refusal::Trouble(why.clone())))));
            }
            Engine::Agents | Engine::Unknown { .. } => self.events.next(until).await?,
            Engine::Cluster(cluster) => {
                let now = Instant::now();
                let status = published::status(self.paths, self.life, None);
                let most = self.config.config().shutdown.max_lifetime;
                cluster.observe(status, self.trouble.as_deref(), most, now);
                let until = [until, cluster.due(now)].into_iter().flatten().min();
                tokio::select! {
                    biased;
                    answer = cluster.progress() => {
                        return Ok(answer.map_or(Woken::Look, Woken::Answer));
                    }
                    wake = self.events.next(until) => wake?,
                }
            }
        };
        match wake {
            Wake::Signals(seen) if seen.contains(&Signal::Terminate) => return Ok(Woken::Leave),
            Wake::Signals(_) | Wake::Changed => {
                self.watch_folders()?;
                self.config.reload(self.reporter);
            }
            Wake::Deadline | Wake::Fd(_) => {}
        }
        Ok(Woken::Look)
    }
}
