//! The judgement, and nothing else: what is published goes in, what to publish comes out. No clock and no files of its own.
//!
//! Idle time is counted on the monotonic clock from looks of ours; published seconds since the epoch are only ever compared
//! with what they were before, so that a stepped clock changes nothing. Whatever is not known counts as work: what others
//! publish can delay a stop, never cause one.

use std::time::{Duration, Instant};

use contract::handshake::{DaemonActivity, SessionKind, StopAck, StopPhase, UserActivity};

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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Publish this stop request.
    pub stop: Option<(StopPhase, String)>,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Watching,
    Asking { since: Instant },
    Final,
}

/// See the module.
#[derive(Debug)]
pub struct Judge {
    state: State,
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
    stops_at: Option<Instant>,
}

impl Judge {
    /// Begins now, as if something had just happened: a monitor that was restarted does not know what went on before.
    /// `generation` is that of its last request in this life, 0 without one.
    #[must_use]
    pub fn new(now: Instant, generation: u64) -> Self {
        Self {
            state: State::Watching,
            generation,
            last_activity: now,
            source: "start".into(),
            hold: None,
            known: false,
            busy: None,
            last_build: None,
            last_work: None,
            stops_at: None,
        }
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

    /// Judges what is seen at `now`.
    pub fn look(&mut self, seen: &Seen, now: Instant) -> Verdict {
        if self.state == State::Final {
            return Verdict { stop: None, note: None, again: None };
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
        match self.state {
            State::Asking { since } => self.asking(seen, activity.as_deref(), since, now),
            State::Watching if self.stops_at.is_some_and(|at| now >= at) => self.ask(seen, now),
            State::Watching | State::Final => self.wait(None),
        }
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
    }

    fn unknown_or_busy(&self) -> bool {
        !self.known || self.busy.is_some()
    }

    fn ask(&mut self, seen: &Seen, now: Instant) -> Verdict {
        self.generation += 1;
        self.state = State::Asking { since: now };
        let reason = seen.idle_timeout.map(reason).unwrap_or_default();
        Verdict { stop: Some((StopPhase::Ask, reason)), note: None, again: Some(now + ANSWER) }
    }

    fn asking(&mut self, seen: &Seen, activity: Option<&str>, since: Instant, now: Instant) -> Verdict {
        if let Some(source) = activity {
            return self.reopen(&format!("not idle after all: {source}"));
        }
        if self.stops_at.is_none_or(|at| now < at) {
            return self.reopen("the idle timeout was changed");
        }
        let work = |ack: &Option<StopAck>| {
            ack.as_ref().filter(|ack| ack.generation == self.generation).map(|ack| ack.work)
        };
        let (daemon, user) = (work(&seen.daemon_ack), work(&seen.user_ack));
        // One that has work is enough.
        for (name, count) in [("daemon", daemon), ("user", user)] {
            if let Some(count) = count.filter(|count| *count > 0) {
                (self.last_activity, self.source) = (now, format!("work in the {name} container"));
                self.stops_at = seen.idle_timeout.and_then(|timeout| now.checked_add(timeout));
                return self.reopen(&format!("not idle after all: {count} at work in the {name} container"));
            }
        }
        if daemon.and(user).is_some() {
            self.state = State::Final;
            let reason = seen.idle_timeout.map(reason).unwrap_or_default();
            return Verdict { stop: Some((StopPhase::Final, reason)), note: None, again: None };
        }
        if now >= since + ANSWER {
            self.hold = Some(now + AGAIN);
            self.stops_at = self.stops_at.max(self.hold);
            let missing = if daemon.is_none() { "daemon" } else { "user" };
            return self.reopen(&format!("the {missing} container has not answered in time"));
        }
        self.wait(Some(since + ANSWER))
    }

    fn reopen(&mut self, why: &str) -> Verdict {
        self.state = State::Watching;
        let again = self.stops_at;
        Verdict { stop: Some((StopPhase::Open, String::new())), note: Some(why.to_owned()), again }
    }

    fn wait(&self, until: Option<Instant>) -> Verdict {
        Verdict { stop: None, note: None, again: until.or(self.stops_at) }
    }
}

fn reason(idle: Duration) -> String {
    format!("idle for {}", contract::config::format_duration(idle))
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
