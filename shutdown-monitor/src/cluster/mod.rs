//! The builder's side of a cluster: what is asked of the API server on the judge's behalf, and what is written there of the builder.
//!
//! Calls are futures that the agent's one loop waits for beside everything else, so that a slow API server delays nothing but its own
//! answer; two at most, one for the judge and one for the rest.

pub mod api;
pub mod duties;
pub mod http;
mod note;

use std::future::{self, Future};
use std::pin::Pin;
use std::time::{Duration, Instant};

use agent::status::chain;
use contract::cluster::{LAST_STOP, STATUS, StoppedBy};
use contract::handshake::{BuilderStatus, StopPhase, StopRequest, StoreStatus};
use serde_json::{Map, Value};

use crate::engine::{Answer, Call};
use api::{Api, Error};
use duties::{Duties, Duty};

type Running<T> = Pin<Box<dyn Future<Output = T>>>;

/// See the module.
pub struct Cluster {
    api: Api,
    duties: Duties,
    call: Option<Running<Answer>>,
    duty: Option<(Duty, Running<Result<(), Error>>)>,
    trouble: Option<String>,
    /// As observed last.
    store: Option<StoreStatus>,
}

impl Cluster {
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(api: Api) -> Self {
        Self { api, duties: Duties::default(), call: None, duty: None, trouble: None, store: None }
    }

    /// Asks on the judge's behalf. An unanswered call is given up for it.
    pub fn call(&mut self, call: Call) {
        let api = self.api.clone();
        self.call = Some(match call {
            Call::Read => Box::pin(async move { Answer::Scale(api.scale().await.map_err(Into::into)) }),
            Call::Stop { version } => {
                Box::pin(async move { Answer::Stop(api.stop(&version).await.map_err(Into::into)) })
            }
        });
    }

    /// What the pod publishes now; `trouble` is the judge's. Work keeps evictions away for `most` at most.
    pub fn observe(&mut self, builder: BuilderStatus, trouble: Option<&str>, most: Duration, now: Instant) {
        self.store.clone_from(&builder.store);
        self.duties.seen(note::building(&builder), most, note::status(builder, trouble), now);
    }

    /// The judge has published a request.
    pub fn requested(&mut self, request: &StopRequest) {
        if request.phase != StopPhase::Final {
            self.duties.goes_on();
            return;
        }
        let (reason, store) = (request.reason.clone(), self.store.as_ref());
        self.duties.stopped(note::stop(StoppedBy::Monitor, reason, request.last_activity, store));
    }

    /// What cannot be written, and why.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Begins what is due, and says when to come back.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        if self.duty.is_none() {
            if let Some(duty) = self.duties.next(now) {
                let (api, todo) = (self.api.clone(), duty.clone());
                self.duty = Some((duty, Box::pin(async move { perform(&api, &todo).await })));
            }
        }
        if self.duty.is_some() { None } else { self.duties.again(now) }
    }

    /// The next answer for the judge; `None` when something else is done. Waits for ever when nothing is under way. May be dropped and
    /// called again.
    pub async fn progress(&mut self) -> Option<Answer> {
        tokio::select! {
            biased;
            answer = running(self.call.as_mut()) => {
                self.call = None;
                Some(answer)
            }
            result = running(self.duty.as_mut().map(|(_, work)| work)) => {
                if let Some((duty, _)) = self.duty.take() {
                    self.finished(&duty, result);
                }
                None
            }
        }
    }

    fn finished(&mut self, duty: &Duty, result: Result<(), Error>) {
        self.duties.done(duty, result.is_ok(), Instant::now());
        let trouble = result.err().map(|error| chain(&error));
        if let Some(text) = trouble.as_ref().filter(|text| self.trouble.as_ref() != Some(*text)) {
            tracing::warn!("{} cannot be written: {text}", name(duty));
        }
        self.trouble = trouble;
    }

    /// The last thing that this life writes: why it ends, as far as that can be found out. Bounded by [`http::LIMIT`] a step; the caller
    /// bounds the whole.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn farewell(&mut self, builder: BuilderStatus, trouble: Option<&str>) -> Result<(), Error> {
        (self.call, self.duty) = (None, None);
        let stop = match (&builder.stop, self.duties.unwritten_stop()) {
            (_, Some(stop)) => Some(stop.clone()),
            // Ours, and written.
            (Some(StopRequest { phase: StopPhase::Final, .. }), None) => None,
            _ => {
                let (by, reason) = note::foreign(self.api.scale().await.ok());
                let last = builder.idle.as_ref().map_or(0, |idle| idle.last_activity);
                Some(note::stop(by, reason.to_owned(), last, builder.store.as_ref()))
            }
        };
        let mut data = Map::new();
        data.insert(STATUS.into(), text(&note::stopping(builder, trouble)));
        if let Some(stop) = &stop {
            data.insert(LAST_STOP.into(), text(stop));
        }
        self.api.note(&Value::Object(data)).await?;
        if self.duties.budget_closed() {
            // The next life of the builder begins without a build.
            self.api.budget(false).await?;
        }
        Ok(())
    }
}

async fn perform(api: &Api, duty: &Duty) -> Result<(), Error> {
    let (key, value) = match duty {
        Duty::Budget { closed } => return api.budget(*closed).await,
        Duty::Status(status) => (STATUS, text(&**status)),
        Duty::Stop(stop) => (LAST_STOP, text(&**stop)),
    };
    api.note(&Value::Object(Map::from_iter([(key.to_owned(), value)]))).await
}

fn name(duty: &Duty) -> &'static str {
    match duty {
        Duty::Budget { closed: true } => "that evictions have to wait for a build",
        Duty::Budget { closed: false } => "that evictions may come",
        Duty::Status(_) => "the builder's status",
        Duty::Stop(_) => "the reason of the stop",
    }
}

async fn running<T>(work: Option<&mut Running<T>>) -> T {
    match work {
        Some(work) => work.await,
        None => future::pending().await,
    }
}

/// A file in a ConfigMap is text.
fn text<T: serde::Serialize>(value: &T) -> Value {
    // These types cannot fail to serialize: no maps with other keys than strings.
    Value::String(serde_json::to_string(value).unwrap_or_default())
}
