//! The judgement, and nothing else: what is published goes in, what to publish comes out. No clock and no files of its own.
//!
//! Idle time is counted on the monotonic clock; published seconds since the epoch are only ever compared
//! with what they were before, so that a stepped clock changes nothing. Whatever is not known counts as work: what others
//! publish can delay a stop, never cause one. Where the engine has to be asked as well (a cluster), its silence or refusal delays a
//! stop like everything else that is not known.

use std::time::{Duration, Instant};

use contract::handshake::{DaemonActivity, StopAck, StopEnd, StopPhase, UserActivity};

use crate::engine::{Answer, Call};
use crate::evidence::{self, Says, Source};
use crate::keeps::Kept;

mod scaling;

/// Both must answer an `Ask` within this: each has only to look and write a file. Meanwhile admission is closed.
pub const ANSWER: Duration = Duration::from_secs(10);
/// After an `Ask` that was not answered in time: who could not answer now will hardly a second later.
pub const AGAIN: Duration = Duration::from_secs(60);
/// The last activity that is told is as old as this at most while something goes on and we look.
const TOLD: Duration = Duration::from_secs(30);
/// Who has a session open is told so long before the end, or a quarter of the idle time before it.
pub const NOTICE: Duration = Duration::from_secs(120);
/// The calendar is looked at anew after this: a machine that has slept has another one.
pub const CALENDAR: Duration = Duration::from_secs(15 * 60);

/// What can be seen at one moment. Files of another life of the pod are absent here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The daemon says that it is ready, and lives.
    pub ready: bool,
    /// Start time of the daemon's process, in ticks: another one has died since, whether it was missed or not.
    pub daemon_since: u64,
    /// user-init says that it serves.
    pub user_serves: bool,
    /// From the daemon container.
    pub daemon: Option<DaemonActivity>,
    /// From the user container.
    pub user: Option<UserActivity>,
    /// What [`UserActivity::last`] says; never later than now.
    pub last: Option<(Instant, String)>,
    /// What keeps the builder besides.
    pub keeps: Vec<Kept>,
    /// The daemon container's answer.
    pub daemon_ack: Option<StopAck>,
    /// The user container's answer.
    pub user_ack: Option<StopAck>,
    /// `[shutdown] idle-timeout`; `None`: never.
    pub idle_timeout: Option<Duration>,
}

impl Seen {
    /// Whether somebody is there to be told of a stop.
    fn has_sessions(&self) -> bool {
        self.user.as_ref().is_some_and(|user| !user.sessions.is_empty())
    }
}

/// What the monitor before us in the same life has left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// When something was last going on.
    pub last_activity: Instant,
    /// What.
    pub source: String,
    /// [`DaemonActivity::last_build`] as it was judged last.
    pub last_build: u64,
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
    /// What keeps it besides.
    pub keeps: Vec<Kept>,
    /// Who has a session open is to be told of the stop.
    pub soon: bool,
    /// For the next monitor of this life; `None` before anything is known.
    pub last_build: Option<u64>,
}

impl Idle {
    /// Whether it is worth telling. While something goes on its time moves with every look; others look when we tell, and telling
    /// each time would keep all of us awake for as long as a build runs.
    #[must_use]
    pub fn is_news_after(&self, told: &Self) -> bool {
        let other = Self { last_activity: told.last_activity, ..self.clone() } != *told;
        let moved = self.last_activity.saturating_duration_since(told.last_activity);
        other || moved >= if self.stops_at.is_some() { Duration::from_nanos(1) } else { TOLD }
    }
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
    sources: Vec<Box<dyn Source>>,
    /// Not before, after an unanswered `Ask`.
    hold: Option<Instant>,
    /// All of the evidence was there at the last look.
    known: bool,
    /// What was going on at the last look.
    busy: Option<String>,
    last_build: Option<u64>,
    keeps: Vec<Kept>,
    stops_at: Option<Instant>,
    /// When those with a session open were told of the stop that is due.
    told: Option<Instant>,
    /// Answers of the engine in a row that were none.
    failures: u32,
    trouble: Option<String>,
}

impl Judge {
    /// Begins now, as if something had just happened: nobody knows what went on before.
    /// `generation` is that of the last request in this life, 0 without one.
    #[must_use]
    pub fn new(now: Instant, generation: u64, end: StopEnd) -> Self {
        Self {
            state: State::Watching,
            end,
            generation,
            last_activity: now,
            source: "start".into(),
            sources: evidence::sources(None),
            hold: None,
            known: false,
            busy: None,
            last_build: None,
            keeps: Vec::new(),
            stops_at: None,
            told: None,
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

    /// Goes on where the monitor before us was ended.
    #[must_use]
    pub fn remembering(self, memory: Memory) -> Self {
        Self {
            last_activity: memory.last_activity,
            source: memory.source,
            sources: evidence::sources(Some(memory.last_build)),
            known: true,
            ..self
        }
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
        Idle {
            last_activity: self.last_activity,
            source: self.source.clone(),
            stops_at: self.stops_at,
            keeps: self.keeps.clone(),
            soon: self.told.is_some(),
            last_build: self.last_build.filter(|_| self.known),
        }
    }

    /// Judges what is seen at `now`, and what the engine has answered to the last [`Call`].
    pub fn look(&mut self, seen: &Seen, answer: Option<Answer>, now: Instant) -> Verdict {
        if let State::Final { look, pause } = self.state {
            return self.finally(seen, answer, look, pause, now);
        }
        let activity = self.activity(seen, now);
        if activity.is_some() {
            self.hold = None;
        }
        self.plan(seen, now);
        match self.state.clone() {
            State::Asking { since, version } => self.asking(seen, activity.as_deref(), since, version, now),
            State::Reading { since } => self.reading(seen, answer, since, now),
            State::Scaling { since } => self.scaling(seen, answer, since, now),
            State::Watching if !self.is_due(now) => self.wait(None, seen, now),
            State::Watching if self.end == StopEnd::AwaitSignal => self.read(now),
            State::Watching | State::Final { .. } => self.ask(seen, String::new(), now),
        }
    }

    /// When it stops, and who is told of it.
    fn plan(&mut self, seen: &Seen, now: Instant) {
        self.keeps = seen.keeps.iter().filter(|kept| kept.ends > now).cloned().collect();
        let timeout = seen.idle_timeout.filter(|_| self.known && self.busy.is_none());
        let idle = timeout.and_then(|timeout| self.last_activity.checked_add(timeout));
        let others = self.keeps.iter().map(|kept| kept.ends).chain(self.hold);
        let due = idle.map(|idle| others.fold(idle, Instant::max));
        let Some((due, notice)) = due.zip(timeout.map(notice)).filter(|_| seen.has_sessions()) else {
            (self.stops_at, self.told) = (due, None);
            return;
        };
        if now + notice < due {
            self.told = None;
        } else {
            self.told = self.told.or(Some(now));
        }
        // Whatever made it due at once, there is time for a word.
        self.stops_at = Some(self.told.map_or(due, |told| due.max(told + notice)));
    }

    fn is_due(&self, now: Instant) -> bool {
        self.stops_at.is_some_and(|at| now >= at)
    }

    /// Something has just gone on that no activity tells of.
    fn active(&mut self, source: String, seen: &Seen, now: Instant) {
        (self.last_activity, self.source) = (now, source);
        self.plan(seen, now);
    }

    /// What is going on, or went on since the last look.
    fn activity(&mut self, seen: &Seen, now: Instant) -> Option<String> {
        let (mut busy, mut unknown, mut happened) = (None, None, None);
        let mut last: Option<(Instant, String)> = None;
        for source in &mut self.sources {
            match source.look(seen) {
                Says::Nothing => {}
                Says::Now(what) => busy = busy.or(Some(what)),
                Says::Unknown(what) => unknown = unknown.or(Some(what)),
                Says::Happened(what) => happened = happened.or(Some(what)),
                Says::At(at, what) if last.as_ref().is_none_or(|(latest, _)| at > *latest) => {
                    last = Some((at, what));
                }
                Says::At(..) => {}
            }
        }
        self.last_build = seen.daemon.as_ref().map(|daemon| daemon.last_build).or(self.last_build);
        let known = unknown.is_none();
        let (was_known, before) = (
            std::mem::replace(&mut self.known, known),
            std::mem::replace(&mut self.busy, busy.clone().filter(|_| known)),
        );
        let began = (!was_known && known).then(|| "start".to_owned());
        // The end of work counts as well: idle time begins there, not where it was last looked at.
        if let Some(source) = unknown.or(busy).or(began).or(before).or(happened) {
            (self.last_activity, self.source) = (now, source.clone());
            return Some(source);
        }
        let (at, source) = last.filter(|(at, _)| *at > self.last_activity)?;
        (self.last_activity, self.source) = (at.min(now), source.clone());
        Some(source)
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
        if !self.is_due(now) {
            return self.reopen("somebody wants it to stay");
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
            self.plan(seen, now);
            let missing = if daemon.is_none() { "daemon" } else { "user" };
            return self.reopen(&format!("the {missing} container has not answered in time"));
        }
        self.wait(Some(since + ANSWER), seen, now)
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

    fn wait(&self, until: Option<Instant>, seen: &Seen, now: Instant) -> Verdict {
        let told =
            self.stops_at.zip(seen.idle_timeout).filter(|_| seen.has_sessions() && self.told.is_none());
        let told = told.and_then(|(at, timeout)| at.checked_sub(notice(timeout)));
        let calendar = self.stops_at.filter(|_| !self.keeps.is_empty()).map(|_| now + CALENDAR);
        let again = until.or(told.or(self.stops_at).into_iter().chain(calendar).min());
        Verdict { again, ..Verdict::default() }
    }
}

/// Before the end.
fn notice(timeout: Duration) -> Duration {
    NOTICE.min(timeout / 4)
}

fn reason(seen: &Seen) -> String {
    let idle = seen.idle_timeout.map(contract::config::format_duration);
    idle.map(|idle| format!("idle for {idle}")).unwrap_or_default()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
pub(crate) mod tests;
