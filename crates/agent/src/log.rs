//! Logging: to standard error, which the engine keeps for as long as it keeps the pod, and to a bounded file in the agent's folder
//! of the run volume, which daemon-init keeps on the store volume for those who ask when the pod is gone.

mod kept;
mod lines;

use std::io::{self, Write};
use std::sync::{Mutex, OnceLock, PoisonError};

use contract::config::{Log, LogFormat, LogLevel};
use contract::places::Container;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

use crate::paths::Paths;
use kept::Kept;

static LEVEL: OnceLock<reload::Handle<LevelFilter, Registry>> = OnceLock::new();
static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// From now on each line of this process is one of that container's agent, and is kept in its folder. Before [`init`].
pub fn keep(paths: &Paths, container: Container) {
    lines::source(&builder(paths), container.agent());
    *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Kept::new(paths.run_dir(container)));
    // What ends the process must not end with its container.
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tracing::error!("{panic}");
        default(panic);
    }));
}

/// Starts it, once per process; a second call changes nothing. Without a terminal there are no colours; the engine adds the time,
/// JSON lines have their own.
pub fn init(log: &Log) {
    if LEVEL.get().is_some() {
        return;
    }
    lines::format(log.format == LogFormat::Json);
    let (filter, handle) = reload::Layer::new(level(log));
    let layer = fmt::layer().event_format(lines::Lines::default()).with_ansi(false).with_writer(|| Both);
    // An error means that a test has set one already.
    if tracing_subscriber::registry().with(filter).with(layer).try_init().is_ok() {
        let _ = LEVEL.set(handle);
    }
}

/// Changes what [`init`] has set.
pub fn change(log: &Log) {
    lines::format(log.format == LogFormat::Json);
    if let Some(handle) = LEVEL.get() {
        // It fails only where the subscriber is gone, and with it all lines.
        let _ = handle.modify(|filter| *filter = level(log));
    }
}

/// The pod's host name says whose it is: podman's is the builder's name, a cluster's that of the StatefulSet's only pod.
fn builder(paths: &Paths) -> String {
    let host = std::fs::read_to_string(paths.proc.join("sys/kernel/hostname")).unwrap_or_default();
    let host = host.trim();
    let of_set = host.strip_prefix("trampoline-").and_then(|name| name.strip_suffix("-0"));
    of_set.filter(|_| crate::life::in_cluster()).unwrap_or(host).to_owned()
}

fn level(log: &Log) -> LevelFilter {
    match log.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    }
}

/// Both places. A line comes as one `write`.
struct Both;

impl Write for Both {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(kept) = KEPT.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            kept.append(line);
        }
        io::stderr().write_all(line).map(|()| line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
