//! The daemon container's life, a step a line.

use std::cell::Cell;
use std::path::Path;
use std::thread;

use agent::config::Watched;
use agent::entry;
use agent::files;
use agent::log;
use agent::paths::Paths;
use agent::signals::Signals;
use agent::status::{Reporter, chain};
use agent::wait::Waiter;
use contract::exit::Exit;
use contract::handshake::{Isolation, Life, file};
use contract::places::Container;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::seed::abort::Abort;
use crate::seed::error::StoreError;
use crate::supervise::{Ended, Supervisor};
use crate::volume::Volume;
use crate::{
    bind, build_dir, checkpoint, damage, home, in_use, keys, kvm, last_stop, lives, logs, metadata,
    nix_daemon, prepare, proof, reserve, seed, store, supervise,
};

/// Of a machine whose CPUs can do it.
const KVM: &str = "/dev/kvm";

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An old ready file stays.
    #[error("withdraw ready")]
    Withdraw(#[source] files::Error),
    /// Run volume and mount points.
    #[error("prepare the mount points")]
    Prepare(#[from] prepare::Error),
    /// `trampoline.toml`.
    #[error(transparent)]
    Config(#[from] agent::config::Error),
    /// Limits and the place in the process tree.
    #[error("set up this process")]
    Process(#[source] nix::Error),
    /// The volume, or bringing the image's store onto it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The pod lacks what builds need.
    #[error(transparent)]
    Proof(#[from] proof::Error),
    /// `nix-daemon` and what surrounds it.
    #[error(transparent)]
    Supervise(#[from] supervise::Error),
    /// Keys that sign store paths.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// The bind mount.
    #[error(transparent)]
    Bind(#[from] bind::Error),
    /// Where builds work.
    #[error(transparent)]
    BuildDir(#[from] build_dir::Error),
    /// What builds may ask for is not there.
    #[error(transparent)]
    Kvm(#[from] kvm::Error),
    /// The wait for events could not be set up.
    #[error("watch for events")]
    Watch(#[source] std::io::Error),
}

impl Error {
    fn exit(&self) -> Exit {
        match self {
            Self::Withdraw(_) | Self::Watch(_) | Self::BuildDir(_) => Exit::Io,
            Self::Prepare(error) => error.exit(),
            Self::Store(error) => error.exit(),
            Self::Keys(error) => error.exit(),
            Self::Config(_) => Exit::Config,
            Self::Process(_) => Exit::Internal,
            Self::Bind(_) | Self::Kvm(_) => Exit::Unsupported,
            Self::Proof(error) => error.exit(),
            Self::Supervise(error) => error.exit(),
        }
    }
}

impl From<Error> for (Exit, String) {
    /// As a container ends with it.
    fn from(error: Error) -> Self {
        match error {
            Error::Store(StoreError::Aborted) => {
                (Exit::Ok, "asked to leave while seeding; the next start goes on from here".to_owned())
            }
            Error::Supervise(error) if error.is_a_wish() => (Exit::Ok, chain(&error)),
            error => (error.exit(), chain(&error)),
        }
    }
}

/// Runs until asked to leave; a failure waits before it ends (see [`agent::last_words`]). `adopt`: take over a store without
/// our mark, where it is this container that seeds.
#[must_use]
pub fn serve(paths: &Paths, isolation: Isolation, adopt: bool) -> Exit {
    let held = Cell::new(None);
    let exit =
        entry::serve(paths, Container::Daemon, env!("CARGO_PKG_VERSION"), |life, signals, reporter| {
            let ended =
                steps(paths, isolation, adopt, life, signals, reporter, || held.set(Some(life.clone())))?;
            Ok(ended.reason)
        });
    // Our own last words as well.
    if let Some(life) = held.take() {
        logs::Keeper::begin(paths, &life).copy();
    }
    exit
}

/// `holds` is called once the volume is ours.
fn steps(
    paths: &Paths,
    isolation: Isolation,
    adopt: bool,
    life: &Life,
    signals: &Signals,
    reporter: &mut Reporter,
    holds: impl FnOnce(),
) -> Result<Ended, Error> {
    let config = configured(paths, reporter)?;
    if isolation == Isolation::Userns {
        proof::of_the_pod(paths)?;
    }
    prepare::prepare(paths)?;
    let home = home::identity(paths)?;
    kvm::open_to_builds(config.config().offers_kvm(), KVM.as_ref(), &paths.proc)?;
    let settings = config.config().daemon.clone();
    let store = match isolation {
        Isolation::Privileged => {
            let store = store::open(paths, settings.copy_threads, adopt, Some(&home), signals, reporter)?;
            bind::bind(&paths.volume(), &paths.nix)?;
            store
        }
        Isolation::Userns => {
            let store = store::seeded_ahead(paths, &home, signals, reporter)?;
            proof::ids::prove_on(&paths.mark_dir())?;
            store
        }
    };
    holds();
    last_stop::presume(paths);
    lives::begin(paths, life);
    if let Err(error) = reserve::keep(&paths.mark_dir()) {
        tracing::warn!(%error, "a volume without a free file could not be collected");
    }
    if isolation == Isolation::Privileged && !settings.node_credentials {
        metadata::close("/etc/resolv.conf".as_ref());
    }
    if !build_dir::renew(&paths.build)? {
        tracing::warn!(
            "builds share /tmp: the pod was made without a volume for them, which the next `trampoline-cli setup` gives it"
        );
    }
    limit_processes(settings.max_processes).map_err(Error::Process)?;
    // Workers of a listener that has ended come to us, so that they can be waited for.
    nix::sys::prctl::set_child_subreaper(true).map_err(Error::Process)?;
    let waiter = Waiter::new(signals).map_err(Error::Watch)?;
    let store_id = store.volume.mark().map(|mark| mark.store_id.clone()).unwrap_or_default();
    let image = store.image.manifest().id.clone();
    let home = home::Guard::new(paths, home, store.volume.mark())?;
    in_use::gate::close(paths, life)?;
    damage::publish(paths, life);
    let keyring = keys::Keyring::open(paths)?;
    let on_trial = isolation == Isolation::Userns;
    let mut supervisor = Supervisor {
        paths,
        life,
        config,
        reporter,
        waiter,
        isolation,
        on_trial,
        store_id,
        image,
        home,
        keyring,
        checkpoints: checkpoint::keeper::Keeper::new(store.checkpoints),
    };
    let abort = Abort::new();
    thread::scope(|scope| {
        let ended = supervisor.run(|| {
            scope.spawn(|| tidy(&store.volume, &paths.build, &abort));
        });
        abort.trigger();
        let ended = ended?;
        in_use::forget(paths);
        last_stop::record(paths, &ended);
        lives::end(paths, ended.idle);
        supervisor.checkpoints.close(nix_daemon::end_workers(paths) == 0);
        Ok(ended)
    })
}

/// What needs no power: the run volume becomes ours, and the configuration is read.
pub(crate) fn configured(paths: &Paths, reporter: &mut Reporter) -> Result<Watched, Error> {
    // First of all, before anything can fail: a ready file of a daemon that was killed must not stand.
    files::withdraw(&paths.run_dir(Container::Daemon).join(file::READY)).map_err(Error::Withdraw)?;
    prepare::ahead(paths)?;
    let config = Watched::load(&paths.config)?;
    log::init(&config.config().log);
    reporter.config(config.digest(), None);
    Ok(config)
}

/// What killed seedings left behind goes when the builder serves.
fn tidy(volume: &Volume, build: &Path, abort: &Abort) {
    let of_builds = build_dir::delete_before(build, abort);
    match of_builds.and_then(|n| Ok(n + seed::delete_leftovers(volume, abort)?)) {
        Ok(0) | Err(StoreError::Aborted) => {}
        Ok(leftovers) => tracing::info!(leftovers, "deleted what earlier starts had left behind"),
        Err(error) => tracing::warn!(error = %chain(&error), "leftovers stay until the next start"),
    }
}

/// No pids limit stands in a pod under `kube play`; build users inherit this one. Root itself is not bound by it, unless it is root
/// of a user namespace: there it is held to the sum of what its builds have, each in a namespace below (`kernel/ucount.c`).
fn limit_processes(most: u64) -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NPROC)?;
    let most = most.min(hard);
    setrlimit(Resource::RLIMIT_NPROC, most, most)
}
