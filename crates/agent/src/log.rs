//! Logging to standard error: the engine keeps what a container says.

use contract::config::{Log, LogFormat};
use tracing_subscriber::fmt;

/// Starts it, once per process. Without a terminal there are no colours; the engine adds the time, JSON lines have their own.
pub fn init(log: &Log) {
    let builder =
        fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).with_max_level(level(log));
    // An error means that a test has set one already.
    let _ = match log.format {
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
        LogFormat::Text => builder.without_time().try_init(),
    };
}

fn level(log: &Log) -> tracing::Level {
    use contract::config::LogLevel;
    match log.level {
        LogLevel::Error => tracing::Level::ERROR,
        LogLevel::Warn => tracing::Level::WARN,
        LogLevel::Info => tracing::Level::INFO,
        LogLevel::Debug => tracing::Level::DEBUG,
        LogLevel::Trace => tracing::Level::TRACE,
    }
}
