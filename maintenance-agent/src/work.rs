//! What takes time: a conversation with the daemon on a thread of its own.

use std::future;
use std::sync::Arc;

use agent::paths::Paths;
use contract::handshake::{GcSummary, Life, StoreStatus};
use tokio::task::JoinHandle;
use worker_protocol::GcOutcome;

use crate::conversation::{self, Cut};
use crate::store;

/// Of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Count and publish.
    Measure,
    /// Delete what is dead.
    Collect,
    /// Link identical files.
    Optimise,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// [`Kind::Measure`].
    Measured(Result<StoreStatus, store::Error>),
    /// [`Kind::Collect`].
    Collected(Result<GcOutcome, conversation::Error>),
    /// [`Kind::Optimise`].
    Optimised(Result<(), conversation::Error>),
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
    pub(crate) fn begin(kind: Kind, paths: &Paths, life: &Life, gc: Option<GcSummary>) -> Self {
        let cut = Arc::new(Cut::default());
        let (paths, life, ours) = (paths.clone(), life.clone(), Arc::clone(&cut));
        let handle = tokio::task::spawn_blocking(move || {
            let mut log = |line: &str| tracing::debug!("nix: {line}");
            match kind {
                Kind::Measure => Done::Measured(store::publish(&paths, &life, &ours, gc)),
                Kind::Collect => Done::Collected(conversation::collect(&paths, &life, &ours, None, &mut log)),
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
