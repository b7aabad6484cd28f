//! The judgement, and nothing else: what is published goes in, what to publish comes out. No clock and no files of its own.
//!
//! Idle time is counted on the monotonic clock from looks of ours; published seconds since the epoch are only ever compared
//! with what they were before, so that a stepped clock changes nothing. Whatever is not known counts as work: what others
//! publish can delay a stop, never cause one. Where the engine has to be asked as well (a cluster), its silence or refusal delays a
//! stop like everything else that is not known.

use std::time::{Duration, Instant};

use contract::handshake::{DaemonActivity, SessionKind, StopAck, StopEnd, StopPhase, UserActivity};

use crate::engine::{Answer, Call};

mod scaling;

/// Both must answer an `Ask` within this: each has only to look and write a file. Meanwhile admission is closed.
pub const ANSWER: Duration = Duration::from_secs(10);
/// After an `Ask` that was not answered in time: who could not answer now will hardly a second later.
pub const AGAIN: Duration = Duration::from_secs(60);

/// What can be seen at one moment. Files of another life of the pod are absent here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The daemon says that it is ready, and lives.
    pub ready: bool,
    /// From the daemon container.
    pub daemon: Option<DaemonActivity>,
    /// From the user container.
    pub user: Option<UserActivity>,
    /// The daemon container's answer.
    pub daemon_ack: Option<StopAck>,
    /// The user container's answer.
    pub user_ack: Option<StopAck>,
    /// `[shutdown] idle-timeout`; `None`: never.
    pub idle_timeout: Option<Duration>,
}

/// What to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Publish this stop request.
    pub stop: Option<(StopPhase, String)>,
    /// Ask this of the engine, in place of whatever was asked before and has not been answered.
    pub call: Option<Call>,
    /// Something worth a line in the log.
    pub note: Option<String>,
    /// Look again then even if nothing changes.
    pub again: Option<Instant>,
}

/// For `status`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idle {
    /// When something was last going on.
    pub last_activity: Instant,
    /// What.
    pub source: String,
    /// When the builder is asked to stop; `None` while something goes on, is unknown, or stopping is off.
    pub stops_at: Option<Instant>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Watching,
    /// The engine is asked for the scale as it stands, before anybody else is asked.
    Reading {
        since: Instant,
    },
    Asking {
        since: Instant,
        /// Of the scale that was read.
        version: String,
    },
    /// The engine is told to stop the builder, provided that nobody has changed its mind since.
    Scaling {
        since: Instant,
    },
    /// In a cluster the signal is waited for, and `look` is when the scale is read in case that none comes.
    Final {
        look: Instant,
        pause: Duration,
    },
}

/// See the module.
#[derive(Debug)]
pub struct Judge {
    state: State,
    end: StopEnd,
    generation: u64,
    last_activity: Instant,
    source: String,
    /// Not before, after an unanswered `Ask`.
    hold: Option<Instant>,
    /// Both halves of the evidence were there at the last look.
    known: bool,
    /// What was going on at the last look.
    busy: Option<String>,
    last_build: Option<u64>,
    last_work: Option<u64>,
    last_timeout: Option<Option<Duration>>,
    stops_at: Option<Instant>,
    /// Answers of the engine in a row that were none.
    failures: u32,
    trouble: Option<String>,
}

impl Judge {
    /// Begins now, as if something had just happened: a monitor that was restarted does not know what went on before.
    /// `generation` is that of its last request in this life, 0 without one.
    #[must_use]
    pub fn new(now: Instant, generation: u64, end: StopEnd) -> Self {
        Self {
            state: State::Watching,
            end,
            generation,
            last_activity: now,
            source: "start".into(),
            hold: None,
            known: false,
            busy: None,
            last_build: None,
            last_work: None,
            last_timeout: None,
            stops_at: None,
            failures: 0,
            trouble: None,
        }
    }

    /// As [`Self::new`], for a builder that the monitor before us has stopped already.
    #[must_use]
    pub fn stopped(now: Instant, generation: u64, end: StopEnd) -> Self {
        let state = State::Final { look: now + scaling::LOOK, pause: scaling::LOOK };
        Self { state, ..Self::new(now, generation, end) }
    }

    /// Why the engine does not let an idle builder stop.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Of the last `Ask`.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// As of the last look.
    #[must_use]
    pub fn idle(&self) -> Idle {
        Idle { last_activity: self.last_activity, source: self.source.clone(), stops_at: self.stops_at }
    }

    /// Judges what is seen at `now`, and what the engine has answered to the last [`Call`].
    pub fn look(&mut self, seen: &Seen, answer: Option<Answer>, now: Instant) -> Verdict {
        if let State::Final { look, pause } = self.state {
            return self.finally(seen, answer, look, pause, now);
        }
        let activity = self.activity(seen);
        if let Some(source) = &activity {
            self.last_activity = now;
            self.source.clone_from(source);
            self.hold = None;
        }
        let due = seen.idle_timeout.filter(|_| !self.unknown_or_busy());
        let due = due.and_then(|timeout| self.last_activity.checked_add(timeout));
        self.stops_at = due.max(due.and(self.hold));
        match self.state.clone() {
            State::Asking { since, version } => self.asking(seen, activity.as_deref(), since, version, now),
            State::Reading { since } => self.reading(seen, answer, since, now),
            State::Scaling { since } => self.scaling(seen, answer, since, now),
            State::Watching if !self.is_due(now) => self.wait(None),
            State::Watching if self.end == StopEnd::AwaitSignal => self.read(now),
            State::Watching | State::Final { .. } => self.ask(seen, String::new(), now),
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        self.stops_at.is_some_and(|at| now >= at)
    }

    /// Something has just gone on that no activity tells of.
    fn active(&mut self, source: String, seen: &Seen, now: Instant) {
        (self.last_activity, self.source) = (now, source);
        self.stops_at = seen.idle_timeout.and_then(|timeout| now.checked_add(timeout));
    }

    /// What is going on, or went on since the last look.
    fn activity(&mut self, seen: &Seen) -> Option<String> {
        let known = seen.ready && seen.daemon.is_some() && seen.user.is_some();
        let (Some(daemon), Some(user), true) = (&seen.daemon, &seen.user, known) else {
            (self.known, self.busy) = (false, None);
            return Some(if seen.ready { "start" } else { "waiting for the daemon" }.into());
        };
        let built = self.last_build.replace(daemon.last_build) != Some(daemon.last_build);
        let worked = self.last_work.replace(user.last_work) != Some(user.last_work);
        let retimed = self.last_timeout.replace(seen.idle_timeout) != Some(seen.idle_timeout);
        if !std::mem::replace(&mut self.known, true) {
            self.busy = busy(daemon, user);
            return Some(self.busy.clone().unwrap_or_else(|| "start".into()));
        }
        // The end of work counts as well: idle time begins there, not where it was last looked at.
        let before = std::mem::replace(&mut self.busy, busy(daemon, user));
        self.busy
            .clone()
            .or(before)
            .or_else(|| built.then(|| "build".into()))
            .or_else(|| worked.then(|| "session or job".into()))
            // Whoever has just changed it is there; a shorter one must not be over already.
            .or_else(|| retimed.then(|| "another idle-timeout".into()))
    }

    fn unknown_or_busy(&self) -> bool {
        !self.known || self.busy.is_some()
    }

    fn ask(&mut self, seen: &Seen, version: String, now: Instant) -> Verdict {
        self.generation += 1;
        self.state = State::Asking { since: now, version };
        let stop = Some((StopPhase::Ask, reason(seen)));
        Verdict { stop, again: Some(now + ANSWER), ..Verdict::default() }
    }

    fn asking(
        &mut self,
        seen: &Seen,
        activity: Option<&str>,
        since: Instant,
        version: String,
        now: Instant,
    ) -> Verdict {
        if let Some(source) = activity {
            return self.reopen(&format!("not idle after all: {source}"));
        }
        let work = |ack: &Option<StopAck>| {
            ack.as_ref().filter(|ack| ack.generation == self.generation).map(|ack| ack.work)
        };
        let (daemon, user) = (work(&seen.daemon_ack), work(&seen.user_ack));
        // One that has work is enough.
        for (name, count) in [("daemon", daemon), ("user", user)] {
            if let Some(count) = count.filter(|count| *count > 0) {
                self.active(format!("work in the {name} container"), seen, now);
                return self.reopen(&format!("not idle after all: {count} at work in the {name} container"));
            }
        }
        if daemon.and(user).is_some() {
            return match self.end {
                StopEnd::Leave => self.stop(seen, now),
                StopEnd::AwaitSignal => self.scale(version, now),
            };
        }
        if now >= since + ANSWER {
            self.hold = Some(now + AGAIN);
            self.stops_at = self.stops_at.max(self.hold);
            let missing = if daemon.is_none() { "daemon" } else { "user" };
            return self.reopen(&format!("the {missing} container has not answered in time"));
        }
        self.wait(Some(since + ANSWER))
    }

    fn stop(&mut self, seen: &Seen, now: Instant) -> Verdict {
        self.state = State::Final { look: now + scaling::LOOK, pause: scaling::LOOK };
        let again = (self.end == StopEnd::AwaitSignal).then_some(now + scaling::LOOK);
        Verdict { stop: Some((StopPhase::Final, reason(seen))), again, ..Verdict::default() }
    }

    fn reopen(&mut self, why: &str) -> Verdict {
        self.state = State::Watching;
        let stop = Some((StopPhase::Open, String::new()));
        Verdict { stop, note: Some(why.to_owned()), again: self.stops_at, call: None }
    }

    fn wait(&self, until: Option<Instant>) -> Verdict {
        Verdict { again: until.or(self.stops_at), ..Verdict::default() }
    }
}

fn reason(seen: &Seen) -> String {
    let idle = seen.idle_timeout.map(contract::config::format_duration);
    idle.map(|idle| format!("idle for {idle}")).unwrap_or_default()
}

/// What is going on now.
fn busy(daemon: &DaemonActivity, user: &UserActivity) -> Option<String> {
    if daemon.builds > 0 {
        return Some("build".into());
    }
    if !user.jobs.is_empty() {
        return Some("job".into());
    }
    user.sessions.first().map(|session| {
        let kind = match session.kind {
            SessionKind::Ssh => "ssh",
            SessionKind::Exec => "exec",
            SessionKind::Transfer => "transfer",
        };
        format!("session ({kind})")
    })
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
