//! Whether open sessions, and what they have left running, do something. An open connection is no work: what counts is what its
//! processes do between two looks at `/proc`. Nobody looks while nobody is there, or where the builder never stops for idleness.

mod bytes;
mod cpu;
mod processes;
mod protocol;
mod terminal;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use agent::paths::Paths;
use contract::config::Shutdown;
use contract::handshake::{Moment, SessionKind};

use bytes::Bytes;
use cpu::Cpu;
use protocol::Protocol;
use terminal::Terminal;

pub use processes::Group;

/// Of the idle time, between two looks. What is counted adds up meanwhile, so that a longer pause misses nothing.
const SHARE: u32 = 5;
/// Longest and shortest pause.
const LONGEST: Duration = Duration::from_secs(15);
const SHORTEST: Duration = Duration::from_millis(250);
/// Within it ends what goes with a session.
const PARTING: Duration = Duration::from_secs(1);
/// What a session does that has just begun, until somebody has looked.
const BEGINS: &str = "begins";

/// One kind of evidence that a group of processes does something.
trait Source: fmt::Debug + Send {
    /// For `status`.
    fn word(&self) -> &'static str;

    /// Whether `group` has worked since the last look, which was `elapsed` ago. The first look only remembers.
    fn look(&mut self, group: &Group, elapsed: Duration) -> bool;

    /// We have written to its terminals ourselves.
    fn disturbed(&mut self) {}
}

/// A session, or all that is left of former ones.
#[derive(Debug)]
struct Watched {
    name: String,
    sources: Vec<Box<dyn Source>>,
    /// When it last did something, as far as anybody has looked.
    worked: Instant,
    looked: Instant,
    doing: Option<&'static str>,
}

impl Watched {
    fn new(name: String, mut sources: Vec<Box<dyn Source>>, now: Instant) -> Self {
        sources.push(Box::new(Cpu::default()));
        sources.push(Box::new(Terminal::default()));
        Self { name, sources, worked: now, looked: now, doing: Some(BEGINS) }
    }

    fn session(kind: SessionKind, command: &str, config: &Shutdown, now: Instant) -> Self {
        let (name, sources): (_, Vec<Box<dyn Source>>) = match kind {
            SessionKind::Transfer => ("transfer", vec![Box::new(Bytes::any("transfer"))]),
            SessionKind::Exec => ("session (exec)", vec![Box::new(Bytes::many())]),
            SessionKind::Ssh if contract::room::speaks_nix(command) => {
                ("session (ssh)", vec![Box::new(Protocol::new(config.protocol_timeout))])
            }
            SessionKind::Ssh => ("session (ssh)", vec![Box::new(Bytes::many())]),
        };
        Self::new(name.to_owned(), sources, now)
    }

    /// True if it has worked since the last look.
    fn look(&mut self, group: &Group, now: Instant, pause: Duration) -> bool {
        let elapsed = now.saturating_duration_since(self.looked);
        self.looked = now;
        let mut doing = None;
        for source in &mut self.sources {
            // Each remembers what it sees.
            if source.look(group, elapsed) {
                doing = doing.or(Some(source.word()));
            }
        }
        if doing.is_some() {
            self.worked = now;
        }
        // A look that comes early, as the monitor wants to know, is no reason to take it for silent: too little time has passed.
        self.doing = doing.or(self.doing.filter(|_| now < self.worked + pause));
        self.doing.is_some()
    }

    fn moment(&self) -> String {
        self.doing.map_or_else(|| self.name.clone(), |doing| format!("{}: {doing}", self.name))
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Activity {
    /// By the pid of `user-init session` or `receive`.
    sessions: BTreeMap<i32, Watched>,
    detached: Option<Watched>,
    last: Option<Moment>,
    next: Option<Instant>,
}

impl Activity {
    /// A session is let in.
    pub fn begin(&mut self, pid: i32, kind: SessionKind, command: &str, config: &Shutdown) {
        let now = Instant::now();
        self.sessions.insert(pid, Watched::session(kind, command, config, now));
        self.happened(&self.sessions[&pid].moment());
        self.schedule(config, now);
    }

    /// It is over. The end of one that was silent is no work: its machine may just have fallen asleep.
    pub fn end(&mut self, pid: i32, config: &Shutdown) {
        if let Some(ended) = self.sessions.remove(&pid).filter(|ended| ended.doing.is_some()) {
            self.happened(&ended.moment());
        }
        // What it has left running is looked for, but not what ends with it.
        self.next = interval(config).map(|pause| Instant::now() + pause.min(PARTING));
    }

    /// Something was done that is over now.
    pub fn happened(&mut self, source: &str) {
        // Without a clock nothing of ours would run.
        let at = agent::in_use::now().unwrap_or_default();
        self.last = Some(Moment { at, source: source.to_owned() });
    }

    /// What the session does, if it does something.
    #[must_use]
    pub fn doing(&self, pid: i32) -> Option<&'static str> {
        self.sessions.get(&pid).and_then(|session| session.doing)
    }

    /// What runs without a session does.
    #[must_use]
    pub fn detached(&self) -> Option<&'static str> {
        self.detached.as_ref().and_then(|detached| detached.doing)
    }

    /// The last that was done.
    #[must_use]
    pub fn last(&self) -> Option<&Moment> {
        self.last.as_ref()
    }

    /// Sessions, and the rest as one, that do something.
    #[must_use]
    pub fn working(&self) -> usize {
        let all = self.sessions.values().chain(&self.detached);
        all.filter(|watched| watched.doing.is_some()).count()
    }

    /// When the next look is due.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.next
    }

    /// We are about to write to the terminals of sessions.
    pub fn disturb_terminals(&mut self) {
        let all = self.sessions.values_mut().chain(&mut self.detached);
        all.flat_map(|watched| &mut watched.sources).for_each(|source| source.disturbed());
    }

    /// Looks; `elsewhere` are processes that are counted elsewhere with all that they have started, or that do not count. True if
    /// what is to be told has changed.
    ///
    /// # Errors
    /// When `/proc` cannot be read; then everything counts as it did.
    pub fn look(&mut self, paths: &Paths, elsewhere: &BTreeSet<i32>, config: &Shutdown) -> io::Result<bool> {
        let now = Instant::now();
        // First: a failure is no reason to look again at once.
        self.schedule(config, now);
        let serve = nix::unistd::getpid().as_raw();
        let sessions: BTreeSet<i32> = self.sessions.keys().copied().collect();
        let mut groups = processes::groups(paths, &sessions, elsewhere, serve)?;
        let pause = interval(config).unwrap_or(LONGEST);
        let before = self.told();
        let mut worked = None;
        for (pid, session) in &mut self.sessions {
            let group = groups.sessions.remove(pid).unwrap_or_default();
            if session.look(&group, now, pause) {
                worked = Some(session.moment());
            }
        }
        if groups.detached.count == 0 {
            self.detached = None;
        } else {
            let new = || Watched::new("process".to_owned(), vec![Box::new(Bytes::many())], now);
            let detached = self.detached.get_or_insert_with(new);
            if detached.look(&groups.detached, now, pause) {
                worked = Some(detached.moment());
            }
        }
        if let Some(worked) = worked {
            self.happened(&worked);
        }
        self.schedule(config, now);
        Ok(self.told() != before)
    }

    /// What others are told at once: that something does something, not how it goes on.
    fn told(&self) -> Vec<Option<&'static str>> {
        self.sessions.values().map(|session| session.doing).chain([self.detached()]).collect()
    }

    fn schedule(&mut self, config: &Shutdown, now: Instant) {
        let somebody = !self.sessions.is_empty() || self.detached.is_some();
        self.next = interval(config).filter(|_| somebody).map(|pause| now + pause);
    }
}

/// Between two looks; `None`: nobody asks.
fn interval(config: &Shutdown) -> Option<Duration> {
    config.idle_timeout.map(|timeout| (timeout / SHARE).clamp(SHORTEST, LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(group: &Group, watched: &mut Watched, at: Instant) -> bool {
        !watched.look(group, at, Duration::from_secs(1))
    }

    #[test]
    fn a_session_works_when_it_begins_and_then_by_what_it_does() {
        let (config, start) = (Shutdown::default(), Instant::now());
        let mut shell = Watched::session(SessionKind::Ssh, "", &config, start);
        let mut group = Group { count: 2, ticks: 5, bytes: 900, ..Group::default() };
        let second = |n: u32| start + Duration::from_secs(1) * n;
        assert!(!silent(&group, &mut shell, start + Duration::from_millis(10)), "it has just begun");
        assert_eq!(shell.moment(), "session (ssh): begins");
        assert!(silent(&group, &mut shell, second(2)));
        assert!(silent(&group, &mut shell, second(600)), "open, and nothing else");
        group.ticks += 500;
        assert!(!silent(&group, &mut shell, second(603)));
        assert_eq!(shell.moment(), "session (ssh): cpu");
        assert!(!silent(&group, &mut shell, second(603) + Duration::from_millis(900)), "looked at too early");
        assert!(silent(&group, &mut shell, second(604)));
        group.bytes += 1 << 20;
        assert!(!silent(&group, &mut shell, second(605)));
        assert_eq!(shell.moment(), "session (ssh): bytes");
        group.terminals.insert(3, (1, 1));
        assert!(!silent(&group, &mut shell, second(606)), "a terminal of its own");
        assert_eq!(shell.moment(), "session (ssh): terminal");
        assert!(silent(&group, &mut shell, second(607)));
    }

    #[test]
    fn looks_are_rare_and_only_where_somebody_asks() {
        let config = |timeout| Shutdown { idle_timeout: timeout, ..Shutdown::default() };
        let of = |seconds| interval(&config(Some(Duration::from_secs(seconds))));
        assert_eq!(of(1800), Some(LONGEST));
        assert_eq!(of(60), Some(Duration::from_secs(12)));
        assert_eq!(of(1), Some(SHORTEST));
        assert_eq!(interval(&config(None)), None);
        let mut activity = Activity::default();
        assert_eq!(activity.due(), None, "nobody is there");
        activity.begin(7, SessionKind::Exec, "", &config(None));
        assert_eq!(activity.due(), None, "nobody asks");
        activity.begin(8, SessionKind::Exec, "", &Shutdown::default());
        assert!(activity.due().is_some());
    }
}
