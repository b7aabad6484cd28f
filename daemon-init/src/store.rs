//! The volume's store, made ready for this image while signals are still heard.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use agent::signals::{Signal, Signals};
use agent::status::Reporter;
use agent::wait::{Waiter, Wake};
use contract::handshake::Phase;
use nix::sys::resource::{Resource, getrlimit};

use crate::checkpoint::{Before, Checkpoints};
use crate::seed::abort::Abort;
use crate::seed::error::StoreError;
use crate::seed::watch::{Observer, Step, Watch};
use crate::seed::{self, Image, ImagePaths, Options, Seeded};
use crate::volume::{self, Open, Volume};
use crate::{damage, home};

/// A status file a second is enough for a progress bar.
const REPORT: Duration = Duration::from_secs(1);

/// What serving needs.
#[derive(Debug)]
pub struct Store {
    /// Locked until it is dropped.
    pub volume: Volume,
    /// The running image.
    pub image: Image,
    /// How far it is on disk.
    pub checkpoints: Checkpoints,
}

/// Opens the volume and brings the image's paths onto it. SIGTERM ends it, and the next start goes on from there. `home` is the
/// mounted one, if that is known.
///
/// # Errors
/// See [`StoreError`].
pub fn open(
    paths: &Paths,
    threads: u32,
    adopt: bool,
    home: Option<&str>,
    signals: &Signals,
    reporter: &mut Reporter,
) -> Result<Store, StoreError> {
    let image = load(paths)?;
    let abort = Abort::new();
    let progress = Progress::new(reporter.clone(), "seeding");
    let watch = Watch::new(&progress, &abort);
    let (mut volume, seeded, checkpoints) = abortable(signals, &abort, || {
        let mut volume =
            volume::open(&Open { root: &paths.volume_root, image: &image, adopt, abort: &abort })?;
        let checkpoints = checkpoints(paths, &volume)?;
        verify(&mut volume, &image, &checkpoints, reporter, &abort)?;
        // One that cannot be told is no home of this store's.
        let may_collect = !home::is_another(volume.mark(), home.unwrap_or_default());
        let options = Options { threads: fitting(threads), may_collect };
        let seeded = seed::run(&mut volume, &image, options, &watch)?;
        checkpoints.begin()?;
        Ok((volume, seeded, checkpoints))
    })?;
    report(seeded, &image);
    if let Some(home) = home {
        remember(&mut volume, home)?;
    }
    Ok(Store { volume, image, checkpoints })
}

/// The first home is the store's.
fn remember(volume: &mut Volume, home: &str) -> Result<(), StoreError> {
    let is_first = volume.mark().is_some_and(|mark| mark.home_id.is_empty());
    if is_first { volume.remember_home(home) } else { Ok(()) }
}

/// Opens a volume that `prepare --seed` has made ready: mounted at `/nix` it covers the image's own store, so nothing can be brought
/// from here.
///
/// # Errors
/// [`StoreError::NotSeeded`] where it is not this image's; else as [`open`].
pub fn seeded_ahead(
    paths: &Paths,
    home: &str,
    signals: &Signals,
    reporter: &mut Reporter,
) -> Result<Store, StoreError> {
    let image = load(paths)?;
    let abort = Abort::new();
    let not_seeded = |found: &str| StoreError::NotSeeded { path: paths.volume(), found: found.to_owned() };
    let mut volume =
        match volume::open(&Open { root: &paths.volume_root, image: &image, adopt: false, abort: &abort }) {
            Err(StoreError::Legacy { .. }) => return Err(not_seeded("a store without our mark")),
            opened => opened?,
        };
    let checkpoints = checkpoints(paths, &volume)?;
    if volume.holds(&image) {
        // The container was started again, and the one that seeds was not.
        abortable(signals, &abort, || {
            verify(&mut volume, &image, &checkpoints, reporter, &abort)?;
            checkpoints.begin()
        })?;
    }
    match volume.mark() {
        Some(_) if volume.holds(&image) => {
            remember(&mut volume, home)?;
            Ok(Store { volume, image, checkpoints })
        }
        Some(mark) if mark.image.is_empty() => Err(not_seeded("a store that is not whole")),
        Some(_) => Err(not_seeded("the store of another image")),
        None => Err(not_seeded("nothing")),
    }
}

fn checkpoints(paths: &Paths, volume: &Volume) -> Result<Checkpoints, StoreError> {
    let boot = agent::life::boot(&paths.proc)
        .map_err(|e| StoreError::io("ask for the boot id in", &paths.proc, e))?;
    Checkpoints::of(volume, &boot)
}

/// Where the machine went down under the store, whatever it may have lost is removed or made anew before anybody uses it.
fn verify(
    volume: &mut Volume,
    image: &Image,
    checkpoints: &Checkpoints,
    reporter: &Reporter,
    abort: &Abort,
) -> Result<(), StoreError> {
    let before = checkpoints.before()?;
    let named = damage::waiting(&volume.mark_dir());
    let since = match before {
        Before::LostSince(since) => since,
        _ if named.is_empty() => return Ok(()),
        _ => i64::MAX,
    };
    let why = match before {
        Before::LostSince(0) => "verifying the store: no checkpoint vouches for any of it",
        Before::LostSince(_) => "verifying what is new in the store: the machine went down under it",
        _ => "making damaged paths of the image anew",
    };
    let mut reporter = reporter.clone();
    reporter.phase(Phase::Starting, why);
    tracing::info!("{why}");
    let progress = Progress::new(reporter, "verifying");
    let verified = seed::verify::since(volume, image, since, &named, &Watch::new(&progress, abort))?;
    let (paths, mib, damaged) = (verified.paths, verified.bytes >> 20, verified.damaged.len());
    tracing::info!(paths, mib, damaged, "verified what is new in the store");
    if !named.is_empty() {
        damage::settled(&volume.mark_dir());
    }
    damage::remember(&volume.mark_dir(), verified.damaged);
    Ok(())
}

pub(crate) fn load(paths: &Paths) -> Result<Image, StoreError> {
    Image::load(ImagePaths {
        nix: paths.nix.clone(),
        manifest: paths.image.join("image.json"),
        registration: paths.image.join("registration"),
    })
}

fn report(seeded: Seeded, image: &Image) {
    let version = &image.manifest().nix_version;
    if seeded == Seeded::default() {
        tracing::info!(nix = version, "the volume holds this image's store");
    } else {
        let (paths, mib) = (seeded.paths, seeded.room.bytes >> 20);
        tracing::info!(
            nix = version,
            paths,
            mib,
            collected = seeded.collected,
            "store brought onto the volume"
        );
    }
}

/// Copying threads must not run into the limit on processes of a small machine.
fn fitting(threads: u32) -> u32 {
    let limit = getrlimit(Resource::RLIMIT_NPROC).map_or(u64::MAX, |(soft, _)| soft);
    threads.min(u32::try_from(limit / 4).unwrap_or(u32::MAX))
}

/// Runs `work` in a thread, and has it aborted by SIGTERM.
fn abortable<T: Send>(
    signals: &Signals,
    abort: &Abort,
    work: impl FnOnce() -> Result<T, StoreError> + Send,
) -> Result<T, StoreError> {
    let wait = |e: io::Error| StoreError::io("wait for", "seeding".as_ref(), e);
    let (ended, end) = UnixStream::pair().map_err(wait)?;
    let mut waiter = Waiter::new(signals).map_err(wait)?;
    thread::scope(|scope| {
        let work = scope.spawn(move || {
            // Closed when the work is over, however it ends.
            let _end = end;
            work()
        });
        loop {
            match waiter.wait_fds(None, &[ended.as_fd()]).map_err(wait)? {
                Wake::Fd(_) => {
                    // The end of the stream: nothing was ever written.
                    let _ = (&ended).read(&mut [0]);
                    break;
                }
                Wake::Signals(seen) if seen.contains(&Signal::Terminate) => abort.trigger(),
                _ => {}
            }
        }
        work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Tells the status file and the log.
struct Progress {
    state: Mutex<(Reporter, Instant)>,
    doing: &'static str,
}

impl Progress {
    fn new(reporter: Reporter, doing: &'static str) -> Self {
        Self { state: Mutex::new((reporter, Instant::now())), doing }
    }
}

impl Observer for Progress {
    fn progress(&self, done: u64, total: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.1.elapsed() >= REPORT {
            state.1 = Instant::now();
            state.0.progress(done, total);
            tracing::info!("{}: {} of {} MiB", self.doing, done >> 20, total >> 20);
        }
    }

    fn step(&self, step: Step) {
        if step == Step::Begun {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0.phase(Phase::Starting, "bringing the image's store onto the volume");
        }
    }
}
