//! A stop that an engine has to carry out. The scale is read before anybody is asked, and set only if it is still the same: a client
//! that wakes the builder writes on that object first, so either the client sees the stop, or the stop fails.

use std::time::{Duration, Instant};

use agent::wait::growing;

use super::{Judge, Seen, State, Verdict};
use crate::engine::{Answer, Call, Refusal};

/// An engine that has not answered by then will not. Longer than a call of ours may take, which ends by itself; shorter than a
/// client waits for the decision.
pub(super) const CALL: Duration = Duration::from_secs(40);
/// After a call that failed, doubled each time ...
pub(super) const RETRY: Duration = Duration::from_secs(10);
/// ... up to this: a builder must not stay up for long after its cluster has come back.
pub(super) const RETRY_MAX: Duration = Duration::from_secs(300);
/// After a stop the signal comes within a second. Where none has come, somebody may have woken the builder so early that its pod was
/// never ended: the first look after this, then at twice the pause each time ...
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// ... up to this: a client waits, and hears that the builder is stopping.
pub(super) const LOOK_MAX: Duration = Duration::from_secs(16);

impl Judge {
    pub(super) fn read(&mut self, now: Instant) -> Verdict {
        self.state = State::Reading { since: now };
        Verdict { call: Some(Call::Read), again: Some(now + CALL), ..Verdict::default() }
    }

    pub(super) fn reading(
        &mut self,
        seen: &Seen,
        answer: Option<Answer>,
        since: Instant,
        now: Instant,
    ) -> Verdict {
        if !self.is_due(now) {
            // Nobody has been asked yet, so there is nothing to take back.
            self.state = State::Watching;
            return self.wait(None, seen, now);
        }
        let refusal = match answer {
            Some(Answer::Scale(Ok(scale))) => {
                (self.failures, self.trouble) = (0, None);
                return self.ask(seen, scale.version, now);
            }
            Some(Answer::Scale(Err(refusal))) => refusal,
            _ if now >= since + CALL => silent(),
            _ => return self.wait(Some(since + CALL), seen, now),
        };
        self.failed(&refusal, seen, now);
        self.state = State::Watching;
        self.wait(None, seen, now)
    }

    pub(super) fn scale(&mut self, version: String, now: Instant) -> Verdict {
        self.state = State::Scaling { since: now };
        let call = Some(Call::Stop { version });
        Verdict { call, again: Some(now + CALL), ..Verdict::default() }
    }

    /// Admission is closed meanwhile. What is seen changes nothing: the order cannot be called back, only its answer counts.
    pub(super) fn scaling(
        &mut self,
        seen: &Seen,
        answer: Option<Answer>,
        since: Instant,
        now: Instant,
    ) -> Verdict {
        let refusal = match answer {
            Some(Answer::Stop(Ok(()))) => {
                (self.failures, self.trouble) = (0, None);
                return self.stop(seen, now);
            }
            Some(Answer::Stop(Err(Refusal::Conflict))) => {
                self.active("wanted by a client".into(), seen, now);
                return self.reopen(
                    "somebody has changed the StatefulSet meanwhile, most likely a client that wants the builder",
                );
            }
            Some(Answer::Stop(Err(refusal))) => refusal,
            // Whether it was carried out is not known. If it was, a signal comes, and what was admitted meanwhile gets its grace.
            _ if now >= since + CALL => silent(),
            _ => return self.wait(Some(since + CALL), seen, now),
        };
        self.failed(&refusal, seen, now);
        let why = self.trouble.clone().unwrap_or_default();
        self.reopen(&why)
    }

    fn failed(&mut self, refusal: &Refusal, seen: &Seen, now: Instant) {
        self.trouble = Some(match refusal {
            Refusal::Conflict => "the StatefulSet is being changed".into(),
            Refusal::Trouble(text) => text.clone(),
        });
        self.hold = now.checked_add(growing(RETRY, self.failures, RETRY_MAX));
        self.failures = self.failures.saturating_add(1);
        self.plan(seen, now);
    }

    /// Final. Somebody else ends the agents, or has the builder back.
    pub(super) fn finally(
        &mut self,
        seen: &Seen,
        answer: Option<Answer>,
        look: Instant,
        pause: Duration,
        now: Instant,
    ) -> Verdict {
        if self.end == contract::handshake::StopEnd::Leave {
            return Verdict::default();
        }
        let (look, pause) = match answer {
            Some(Answer::Scale(Ok(scale))) if scale.replicas > 0 => {
                self.active("wanted by a client".into(), seen, now);
                return self.reopen("somebody has set the scale again before the pod was ended");
            }
            Some(_) => {
                let pause = pause.saturating_mul(2).min(LOOK_MAX);
                (now + pause, pause)
            }
            None => (look, pause),
        };
        let due = now >= look;
        let look = if due { now + CALL } else { look };
        self.state = State::Final { look, pause };
        Verdict { call: due.then_some(Call::Read), again: Some(look), ..Verdict::default() }
    }
}

fn silent() -> Refusal {
    Refusal::Trouble("the API server has not answered".into())
}

#[cfg(test)]
#[path = "scaling_tests.rs"]
mod tests;
