//! What takes time: a conversation with the daemon on a thread of its own.

use std::future;
use std::sync::Arc;
use std::time::Duration;

use agent::paths::Paths;
use contract::config::Config;
use contract::handshake::{GcSummary, Life, StoreStatus};
use tokio::task::JoinHandle;
use worker_protocol::GcOutcome;

use crate::collection::{self, Bounds, News};
use crate::conversation;
use crate::cut::Cut;
use crate::{memory, store, verify};

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Count and publish.
    Measure,
    /// Delete what is dead; all of it, or without what has just come in.
    Collect {
        /// All of it.
        all: bool,
    },
    /// Link identical files.
    Optimise,
    /// Read a slice of the store, if one is due.
    Verify,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// [`Kind::Measure`].
    /// Also when it was collected last, as far as that is known.
    Measured(Result<StoreStatus, store::Error>, Option<u64>),
    /// [`Kind::Collect`].
    Collected(Result<GcOutcome, conversation::Error>),
    /// [`Kind::Optimise`].
    Optimised(Result<(), conversation::Error>),
    /// [`Kind::Verify`]: when the next one is due.
    Verified(Result<Duration, verify::Error>),
}

/// One that is under way.
#[derive(Debug)]
pub(crate) struct Work {
    kind: Kind,
    cut: Arc<Cut>,
    handle: JoinHandle<Done>,
}

impl Work {
    /// Begins it.
    pub(crate) fn begin(
        kind: Kind,
        paths: &Paths,
        life: &Life,
        config: &Config,
        gc: Option<GcSummary>,
    ) -> Self {
        let cut = Arc::new(Cut::default());
        let (paths, life, config, ours) = (paths.clone(), life.clone(), config.clone(), Arc::clone(&cut));
        let handle = tokio::task::spawn_blocking(move || {
            let mut log = |line: &str| tracing::debug!("nix: {line}");
            match kind {
                Kind::Measure => {
                    if let Some(gc) = gc.as_ref().filter(|gc| !gc.dry_run) {
                        memory::note(&paths, gc.at);
                    }
                    let last = memory::recall(&paths);
                    Done::Measured(store::publish(&paths, &life, &config, &ours, gc), last)
                }
                Kind::Collect { all } => {
                    let bounds = Bounds { max_freed: None, older_than: all.then_some(Duration::ZERO) };
                    Done::Collected(collection::collect(&paths, &life, &ours, bounds, &mut |news| {
                        if let News::Line(line) = news {
                            log(line);
                        }
                    }))
                }
                Kind::Verify => Done::Verified(verify::slice(&paths, &life, &config.maintenance, &ours)),
                Kind::Optimise => Done::Optimised(conversation::optimise(&paths, &ours, &mut log)),
            }
        });
        Self { kind, cut, handle }
    }

    /// See [`Kind`].
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// Ends it early; it still is to be waited for.
    pub(crate) fn cut(&self) {
        self.cut.cut();
    }
}

/// Its end; for ever where nothing is under way.
pub(crate) async fn finished(work: Option<&mut Work>) -> Done {
    match work {
        // A panic of that thread is one of ours.
        Some(work) => match (&mut work.handle).await {
            Ok(done) => done,
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        },
        None => future::pending().await,
    }
}
