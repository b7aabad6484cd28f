//! The life of a ready daemon: publish evidence, answer the monitor, drain on SIGTERM, restart a daemon that died.

use std::io;
use std::time::{Duration, Instant};

use agent::config::Watched;
use agent::files;
use agent::last_words;
use agent::paths::Paths;
use agent::published;
use agent::signals::Signal;
use agent::status::Reporter;
use agent::wait::{Waiter, Wake};
use contract::exit::Exit;
use contract::handshake::{
    AgentStatus, Drain, IdleStatus, Isolation, Life, Phase, Ready, StopAck, StopEnd, StopPhase, StopRequest,
    UserActivity, file,
};
use contract::places::Container;
use nix::unistd::Pid;

use crate::checkpoint;
use crate::control::Control;
use crate::evidence::Evidence;
use crate::home::Guard;
use crate::keys::{self, Keyring};
use crate::logs::Keeper;
use crate::nix_daemon;
use crate::proof::trial;

/// A daemon that dies sooner than this after its start counts as a failed start.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// So many in a row, and the container ends and says why.
const SHORT_LIVES: u32 = 5;
/// Connections without a build get this long to notice that we leave.
const LEAVE: Duration = Duration::from_secs(5);
/// The others, who leave when we do, get this long for what they say last, which is to be kept.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why the life ended.
#[derive(Debug, PartialEq, Eq)]
pub struct Ended {
    /// The monitor's doing: nobody did anything.
    pub idle: bool,
    /// For a person.
    pub reason: String,
    /// Seconds since the epoch, 0 if unknown.
    pub last_activity: u64,
}

/// It could not go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// nix-daemon.
    #[error("keep nix-daemon running")]
    Daemon(#[from] nix_daemon::Error),
    /// Builds do not work in this pod.
    #[error(transparent)]
    Trial(#[from] trial::Error),
    /// It died again and again.
    #[error(
        "nix-daemon ended {SHORT_LIVES} times in a row soon after its start ({0}): its own words are above in this container's log"
    )]
    Flapping(String),
    /// Keys that sign store paths.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// Publishing failed.
    #[error("publish on the run volume")]
    Publish(#[from] files::Error),
    /// Of the operating system.
    #[error("wait for events")]
    Io(#[from] io::Error),
}

impl Error {
    /// The code to end with.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Trial(error) => error.exit(),
            _ => Exit::ChildFailed,
        }
    }

    /// Somebody wanted it to end, before it served.
    pub(crate) fn is_a_wish(&self) -> bool {
        matches!(self, Self::Trial(trial::Error::Terminated) | Self::Daemon(nix_daemon::Error::Terminated))
    }
}

/// What the loop works on.
pub struct Supervisor<'a> {
    /// Places.
    pub paths: &'a Paths,
    /// This life.
    pub life: &'a Life,
    /// Settings, re-read when they change.
    pub config: Watched,
    /// Status file.
    pub reporter: &'a mut Reporter,
    /// Events.
    pub waiter: Waiter<'a>,
    /// What keeps the builds apart from the machine.
    pub isolation: Isolation,
    /// Whether it must yet be shown that builds work.
    pub on_trial: bool,
    /// Identity of the store.
    pub store_id: String,
    /// Identity of the image.
    pub image: String,
    /// Is this the home that the store knows?
    pub home: Guard,
    /// Whose signatures are taken.
    pub keyring: Keyring,
    /// Makes the store durable.
    pub checkpoints: checkpoint::keeper::Keeper,
}

struct State {
    daemon: Pid,
    started: Instant,
    short_lives: u32,
    evidence: Evidence,
    control: Control,
    acked: u64,
    drain: Option<Drain>,
    drain_deadline: Option<Instant>,
}

impl Supervisor<'_> {
    /// Starts the daemon, publishes ready, calls `served` once and stays until asked to leave.
    ///
    /// # Errors
    /// When the daemon cannot be kept running.
    pub fn run(&mut self, served: impl FnOnce()) -> Result<Ended, Error> {
        let (daemon, started) = (self.start_daemon()?, Instant::now());
        served();
        for container in [Container::ShutdownMonitor, Container::User] {
            self.waiter.watch_dir(&self.paths.run_dir(container))?;
        }
        if let Some(dir) = self.paths.config.parent().filter(|d| d.is_dir()) {
            self.waiter.watch_dir(dir)?;
            // What changed while the volume was filled.
            self.config.reload(self.reporter);
        }
        self.waiter.watch_dir(&self.paths.mark_dir())?;
        self.checkpoints.watch(&mut self.waiter)?;
        let evidence = {
            let build_size = self.config.config().builder.build_size;
            Evidence::watch(self.paths, self.life, &mut self.waiter, build_size)?
        };
        let control = Control::open(self.paths)?;
        let mut state = State {
            daemon,
            started,
            short_lives: 0,
            evidence,
            control,
            acked: 0,
            drain: None,
            drain_deadline: None,
        };
        last_words::recovered(self.paths, Container::Daemon);
        let mut logs = Keeper::begin(self.paths, self.life);
        loop {
            if let Some(ended) = self.look(&mut state)? {
                self.leave(&state)?;
                return Ok(ended);
            }
            logs.look();
            self.look_at_the_disk(&state)?;
            let deadlines = [
                state.evidence.deadline(),
                state.drain_deadline,
                logs.deadline(),
                self.checkpoints.deadline(),
                state.control.deadline(),
            ];
            let deadline = deadlines.into_iter().flatten().min();
            match self.waiter.wait_fds(deadline, &state.control.fds())? {
                Wake::Signals(seen) => {
                    if seen.contains(&Signal::Child) {
                        self.children_ended(&mut state)?;
                    }
                    if seen.contains(&Signal::Terminate) {
                        self.terminate(&mut state)?;
                    }
                    if seen.contains(&Signal::Reload) {
                        self.reload();
                    }
                }
                Wake::Changed => {
                    self.reload();
                    self.home.look(self.reporter);
                    self.look_at_keys(&mut state)?;
                    state.evidence.look();
                }
                Wake::Deadline | Wake::Fd(_) => {
                    state.control.hear(self.config.config());
                    state.evidence.settle();
                }
            }
        }
    }

    /// Whoever works makes new paths: a checkpoint for each would only slow them down.
    fn look_at_the_disk(&mut self, state: &State) -> Result<(), Error> {
        let user = || published::read::<UserActivity>(self.paths, self.life, Container::User, file::ACTIVITY);
        let by_users = || user().is_some_and(|user| !user.jobs.is_empty() || !user.sessions.is_empty());
        let busy = state.evidence.builds() > 0 || by_users();
        let interval = self.config.config().daemon.checkpoint_interval;
        Ok(self.checkpoints.look(&mut self.waiter, busy, interval)?)
    }

    /// Answers the monitor, and tells whether it is time to leave.
    fn look(&mut self, state: &mut State) -> Result<Option<Ended>, Error> {
        if let Some(stop) = self.stop_request() {
            match stop.phase {
                // The engine's signal ends us.
                StopPhase::Final if stop.end == StopEnd::AwaitSignal => {}
                StopPhase::Final => {
                    return Ok(Some(Ended {
                        idle: true,
                        reason: stop.reason,
                        last_activity: stop.last_activity,
                    }));
                }
                StopPhase::Ask if stop.generation != state.acked => {
                    let work = state.evidence.look().builds;
                    let ack = StopAck { life: self.life.clone(), generation: stop.generation, work };
                    files::write_json(&self.paths.run_dir(Container::Daemon), file::ACK, &ack)?;
                    state.acked = stop.generation;
                }
                StopPhase::Ask | StopPhase::Open => {}
            }
        }
        self.drained(state)
    }

    /// While draining: is there anything left to wait for?
    fn drained(&mut self, state: &mut State) -> Result<Option<Ended>, Error> {
        let Some(drain) = &mut state.drain else { return Ok(None) };
        let builds = state.evidence.look().builds;
        let user: Option<UserActivity> =
            published::read(self.paths, self.life, Container::User, file::ACTIVITY);
        let jobs = user.map_or(0, |u| u.jobs.len());
        let late = state.drain_deadline.is_some_and(|d| Instant::now() >= d);
        if (builds > 0 || jobs > 0) && !late {
            if drain.builds != builds {
                drain.builds = builds;
                publish_drain(self.paths, drain)?;
            }
            return Ok(None);
        }
        // A signal that was announced: the cluster's, for the monitor's reason.
        if let Some(stop) = self.stop_request().filter(|stop| stop.phase == StopPhase::Final) {
            return Ok(Some(Ended { idle: true, reason: stop.reason, last_activity: stop.last_activity }));
        }
        let reason = if late {
            format!("asked to leave by a signal; {builds} builds and {jobs} jobs had not ended in time")
        } else {
            "asked to leave by a signal (down, or the engine)".to_owned()
        };
        let idle: Option<IdleStatus> =
            published::read(self.paths, self.life, Container::ShutdownMonitor, file::IDLE);
        Ok(Some(Ended { idle: false, reason, last_activity: idle.map_or(0, |idle| idle.last_activity) }))
    }

    /// The first SIGTERM begins a drain, another ends the wait.
    fn terminate(&mut self, state: &mut State) -> Result<(), Error> {
        if state.drain.is_some() {
            tracing::info!("second signal: not waiting any longer");
            state.drain_deadline = Some(Instant::now());
            return Ok(());
        }
        files::withdraw(&self.paths.run_dir(Container::Daemon).join(file::READY))?;
        let grace = self.config.config().shutdown.grace;
        nix_daemon::end_listener(state.daemon);
        let builds = state.evidence.look().builds;
        let drain = Drain {
            life: self.life.clone(),
            drained: false,
            builds,
            deadline: agent::unix_now() + grace.as_secs(),
        };
        publish_drain(self.paths, &drain)?;
        let words = format!("asked to leave; {builds} builds running, waiting up to {} s", grace.as_secs());
        tracing::info!("{words}");
        self.reporter.phase(Phase::Draining, words);
        state.drain = Some(drain);
        state.drain_deadline = Some(Instant::now() + grace);
        Ok(())
    }

    fn children_ended(&mut self, state: &mut State) -> Result<(), Error> {
        let ended = nix_daemon::reap();
        state.evidence.look();
        let Some((_, how)) = ended.into_iter().find(|(pid, _)| *pid == state.daemon) else { return Ok(()) };
        if state.drain.is_some() {
            return Ok(());
        }
        tracing::error!("nix-daemon ended ({how}); starting it again, running builds go on");
        files::withdraw(&self.paths.run_dir(Container::Daemon).join(file::READY))?;
        let short = state.started.elapsed() < SHORT_LIFE;
        state.short_lives = if short { state.short_lives + 1 } else { 0 };
        if state.short_lives >= SHORT_LIVES {
            return Err(Error::Flapping(how));
        }
        (state.daemon, state.started) = (self.start_daemon()?, Instant::now());
        Ok(())
    }

    /// Start, ask, publish.
    fn start_daemon(&mut self) -> Result<Pid, Error> {
        let config = self.config.config();
        nix_daemon::write_settings(self.paths, config)?;
        self.keyring.write(self.paths, Some(config))?;
        let timeout = config.daemon.ready_timeout;
        let daemon = nix_daemon::start(self.paths, config)?;
        let nix_version = nix_daemon::await_answer(self.paths, &mut self.waiter, daemon, timeout)?;
        if self.on_trial {
            match trial::run(self.paths, &mut self.waiter, daemon) {
                Ok(()) => self.on_trial = false,
                // Only what is served can be collected.
                Err(error) if error.is_for_lack_of_room() => {
                    tracing::warn!("no trial build in the sandbox: {}", agent::status::chain(&error));
                }
                Err(error) => return Err(error.into()),
            }
        }
        let pid = nix::unistd::getpid().as_raw();
        let ready = Ready {
            life: self.life.clone(),
            pid,
            start_time: agent::proc::start_time(&self.paths.proc, pid)?.unwrap_or(0),
            store_id: self.store_id.clone(),
            nix_version,
            image: self.image.clone(),
            isolation: Some(self.isolation),
            at: agent::unix_now(),
        };
        self.keyring.publish(self.paths, self.life)?;
        files::write_json(&self.paths.run_dir(Container::Daemon), file::READY, &ready)?;
        tracing::info!(nix = ready.nix_version, "ready");
        self.reporter.phase(Phase::Running, format!("nix-daemon {} serves", ready.nix_version));
        self.home.report(self.reporter);
        Ok(daemon)
    }

    /// Keys that were added or removed count for the connections of a new listener; those that are open go on as they are.
    fn look_at_keys(&mut self, state: &mut State) -> Result<(), Error> {
        if state.drain.is_some() {
            return Ok(());
        }
        match self.keyring.changed(self.paths) {
            Ok(false) => return Ok(()),
            Ok(true) => {}
            Err(error) => {
                tracing::warn!("the keys stay as they are: {}", agent::status::chain(&error));
                return Ok(());
            }
        }
        self.keyring.write(self.paths, None)?;
        match nix_daemon::replace(self.paths, self.config.config(), &mut self.waiter, state.daemon) {
            Ok(daemon) => {
                (state.daemon, state.started) = (daemon, Instant::now());
                self.keyring.publish(self.paths, self.life)?;
                tracing::info!("keys have changed; a new listener of nix-daemon has taken over");
            }
            Err(nix_daemon::Error::Terminated) => self.terminate(state)?,
            // Its end is noticed like any other, and the next one reads the keys.
            Err(error) => tracing::error!("{}", agent::status::chain(&error)),
        }
        state.evidence.look();
        Ok(())
    }

    /// Withdraws ready, ends the daemon and tells the others that nothing is left.
    fn leave(&mut self, state: &State) -> Result<(), Error> {
        files::withdraw(&self.paths.run_dir(Container::Daemon).join(file::READY))?;
        nix_daemon::end_listener(state.daemon);
        let deadline = Instant::now() + LEAVE;
        loop {
            // Children of the listener become ours only when it has ended, so this may take more than one round.
            let _ = nix_daemon::reap();
            if nix_daemon::end_workers(self.paths) == 0 {
                break;
            }
            if self.waiter.wait(Some(deadline))? == Wake::Deadline {
                tracing::warn!(
                    "some connections of nix-daemon did not end; the container's end will end them"
                );
                break;
            }
        }
        let drain = Drain { life: self.life.clone(), drained: true, builds: 0, deadline: agent::unix_now() };
        publish_drain(self.paths, &drain)?;
        self.others_leave()
    }

    fn others_leave(&mut self) -> Result<(), Error> {
        let deadline = Instant::now() + LAST_WORDS;
        let others = [Container::User, Container::Maintenance, Container::ShutdownMonitor];
        self.waiter.watch_dir_if_there(&self.paths.run_dir(Container::Maintenance))?;
        let left = |of| {
            let status: Option<AgentStatus> = published::read(self.paths, self.life, of, file::STATUS);
            status.is_none_or(|status| matches!(status.phase, Phase::Ended | Phase::Failed))
        };
        while !others.into_iter().all(left) && self.waiter.wait(Some(deadline))? != Wake::Deadline {}
        Ok(())
    }

    fn stop_request(&self) -> Option<StopRequest> {
        let path = self.paths.run_dir(Container::ShutdownMonitor).join(file::STOP);
        match files::read_live(&path, self.life) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(error = %agent::status::chain(&error), "stop request not read");
                None
            }
        }
    }

    /// What changed is said in the status. nix-daemon's settings wait for a restart: a connection is served by a fork of the
    /// listener, which has read them once.
    fn reload(&mut self) {
        self.config.reload(self.reporter);
    }
}

fn publish_drain(paths: &Paths, drain: &Drain) -> Result<(), files::Error> {
    files::write_json(&paths.run_dir(Container::Daemon), file::DRAIN, drain)
}
