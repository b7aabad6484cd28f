//! What every agent does around its own work: hear signals, know the pod's life, say how it ended.

use contract::config::Log;
use contract::exit::Exit;
use contract::handshake::{Life, Phase};
use contract::places::Container;

use crate::paths::Paths;
use crate::signals::Signals;
use crate::status::Reporter;
use crate::{last_words, life, log};

/// Runs `work` until it ends. `Ok` holds why it left, for a person; so does `Err`, with the code: [`Exit::Ok`] there means that it was
/// asked to leave, anything else is a failure, which waits before it ends (see [`last_words`]).
#[must_use]
pub fn serve(
    paths: &Paths,
    container: Container,
    version: &str,
    work: impl FnOnce(&Life, &Signals, &mut Reporter) -> Result<String, (Exit, String)>,
) -> Exit {
    log::keep(paths, container);
    let cannot_start = |error: std::io::Error, exit: Exit| {
        log::init(&Log::default());
        tracing::error!(%error, "cannot start");
        exit
    };
    let signals = match Signals::install() {
        Ok(signals) => signals,
        Err(error) => return cannot_start(error, Exit::Internal),
    };
    let life = match life::current(paths) {
        Ok(life) => life,
        // There is no `/proc`, or not the one that we need.
        Err(error) => return cannot_start(error, Exit::Unsupported),
    };
    let mut reporter = Reporter::new(paths, &life, container, version);
    match work(&life, &signals, &mut reporter) {
        Ok(words) => {
            tracing::info!("leaving: {words}");
            reporter.phase(Phase::Ended, words);
            Exit::Ok
        }
        Err((Exit::Ok, words)) => {
            reporter.phase(Phase::Ended, words);
            Exit::Ok
        }
        Err(last) => {
            // Where the configuration itself is refused there is none yet.
            log::init(&Log::default());
            last_words::fail(paths, &life, container, &mut reporter, &signals, last)
        }
    }
}
