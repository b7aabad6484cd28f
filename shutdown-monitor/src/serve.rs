//! The real world: files on the run volume, the clock, the configuration, signals.

use std::io;
use std::time::Instant;

use agent::config::Watched;
use agent::events::Events;
use agent::files::{self, Living};
use agent::paths::Paths;
use agent::signals::{Signal, Signals};
use agent::status::{Reporter, chain};
use agent::wait::Wake;
use agent::{entry, last_words, log, ready};
use contract::exit::Exit;
use contract::handshake::{IdleStatus, Life, Phase, StopRequest, file};
use contract::places::Container;
use serde::de::DeserializeOwned;

use crate::judge::Seen;
use crate::watch::{Ended, Woken, World, watch};

const US: Container = Container::ShutdownMonitor;

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
        let mut world = Pod { paths, life, config, reporter, events: Events::new(signals)? };
        world.watch_folders()?;
        watch(&mut world, life).await
    })?)
}

struct Pod<'a> {
    paths: &'a Paths,
    life: &'a Life,
    config: Watched,
    reporter: &'a mut Reporter,
    events: Events<'a>,
}

impl Pod<'_> {
    /// Folders that are made later than we start are added as soon as they are there: their parent is watched.
    fn watch_folders(&mut self) -> io::Result<()> {
        self.events.watch_dir_if_there(&self.paths.run)?;
        for container in [Container::Daemon, Container::User] {
            self.events.watch_dir_if_there(&self.paths.run_dir(container))?;
        }
        if let Some(dir) = self.paths.config.parent() {
            self.events.watch_dir_if_there(dir)?;
        }
        Ok(())
    }

    /// A file of this life. One that cannot be read is as good as none, which only ever delays a stop.
    fn read<T: DeserializeOwned + Living>(&self, container: Container, name: &str) -> Option<T> {
        let path = self.paths.run_dir(container).join(name);
        files::read_live(&path, self.life).unwrap_or_else(|error| {
            tracing::debug!("{}", chain(&error));
            None
        })
    }
}

impl World for Pod<'_> {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> u64 {
        agent::unix_now()
    }

    fn look(&mut self) -> Seen {
        let ready = ready::published(self.paths, self.life).is_some();
        let words = if ready { "watching for idleness" } else { "waiting for the daemon" };
        if self.reporter.status().message != words {
            let phase = if ready { Phase::Running } else { Phase::Starting };
            self.reporter.phase(phase, words);
            if ready {
                last_words::recovered(self.paths, US);
            }
        }
        Seen {
            ready,
            daemon: self.read(Container::Daemon, file::ACTIVITY),
            user: self.read(Container::User, file::ACTIVITY),
            daemon_ack: self.read(Container::Daemon, file::ACK),
            user_ack: self.read(Container::User, file::ACK),
            idle_timeout: self.config.config().shutdown.idle_timeout,
        }
    }

    fn former_request(&mut self) -> Option<StopRequest> {
        self.read(US, file::STOP)
    }

    fn request(&mut self, request: &StopRequest) -> io::Result<()> {
        tracing::info!(generation = request.generation, reason = request.reason, "stop: {:?}", request.phase);
        files::write_json(&self.paths.run_dir(US), file::STOP, request).map_err(io::Error::other)
    }

    fn show(&mut self, idle: &IdleStatus) {
        if let Err(error) = files::write_json(&self.paths.run_dir(US), file::IDLE, idle) {
            tracing::debug!("{}", chain(&error));
        }
    }

    fn note(&mut self, text: &str) {
        tracing::info!("staying: {text}");
    }

    async fn wait(&mut self, until: Option<Instant>) -> io::Result<Woken> {
        match self.events.next(until).await? {
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
