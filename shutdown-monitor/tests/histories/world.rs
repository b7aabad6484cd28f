//! A builder without its monitor, in which anything may happen, and the rules that the monitor must keep.

use std::io;
use std::time::{Duration, Instant};

use contract::handshake::{
    DaemonActivity, Hold, IdleStatus, Life, Moment, Session, SessionKind, StopAck, StopEnd, StopPhase,
    StopRequest, UserActivity,
};
use shutdown_monitor::engine::{Answer, Call, Refusal, Scale};
use shutdown_monitor::judge::{AGAIN, ANSWER, NOTICE, Seen};
use shutdown_monitor::keeps;
use shutdown_monitor::watch::{self, Woken};

/// Things that happen before all is left alone.
const EVENTS: u32 = 60;
/// Longest pause of the monitor after an API server that has failed.
const RETRY_MAX: Duration = Duration::from_secs(300);
/// Lines of what happened that a failure shows.
const SHOWN: usize = 60;

/// Something on its way.
#[derive(Debug, Clone)]
enum Coming {
    DaemonAnswers(u64),
    UserAnswers(u64),
    UserHears(StopPhase),
    Api(Call),
}

pub(crate) struct World {
    rng: fastrand::Rng,
    seed: u64,
    end: StopEnd,
    start: Instant,
    /// Since the start.
    now: Duration,
    wall: u64,
    timeout: Duration,
    daemon_up: bool,
    daemon_since: u64,
    daemon: DaemonActivity,
    daemon_open: bool,
    user_up: bool,
    user_serves: bool,
    /// As published: of an agent that was killed it stays.
    user: UserActivity,
    user_open: bool,
    /// Who came while a stop was being decided.
    waiting: u32,
    acks: [Option<StopAck>; 2],
    stop: Option<StopRequest>,
    idle: Option<IdleStatus>,
    coming: Vec<(Duration, Coming)>,
    version: u64,
    replicas: u32,
    api_up: bool,
    events: u32,
    /// Since when nothing has gone on; `None` while something does.
    quiet: Option<Duration>,
    /// When all was left alone.
    alone: Option<Duration>,
    over: bool,
    pub(crate) reopened: u64,
    pub(crate) worked: bool,
    trace: Vec<String>,
}

fn life() -> Life {
    Life("boot:1".into())
}

impl World {
    pub(crate) fn new(seed: u64, end: StopEnd) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let timeout = Duration::from_secs([4, 60, 600, 1800][rng.usize(0..4)]);
        Self {
            rng,
            seed,
            end,
            start: Instant::now(),
            now: Duration::ZERO,
            wall: 1_800_000_000,
            timeout,
            daemon_up: true,
            daemon_since: 0,
            daemon: DaemonActivity { life: life(), builds: 0, begun: 0, last_build: 0 },
            daemon_open: true,
            user_up: true,
            user_serves: true,
            user: UserActivity::quiet(life()),
            user_open: true,
            waiting: 0,
            acks: [None, None],
            stop: None,
            idle: None,
            coming: Vec::new(),
            version: 1,
            replicas: 1,
            api_up: true,
            events: EVENTS,
            quiet: Some(Duration::ZERO),
            alone: None,
            over: false,
            reopened: 0,
            worked: false,
            trace: Vec::new(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    pub(crate) fn fail(&self, why: &str) -> ! {
        let shown = self.trace.len().saturating_sub(SHOWN);
        panic!(
            "{why}\nTRAMPOLINE_HISTORY={} plays it again, with an idle time of {:?}\n{}",
            self.seed,
            self.timeout,
            self.trace[shown..].join("\n")
        );
    }

    fn say(&mut self, what: impl AsRef<str>) {
        self.trace.push(format!("{:>9.1} s  {}", self.now.as_secs_f64(), what.as_ref()));
    }

    fn at(&self, moment: Duration) -> Instant {
        self.start + moment
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.now.as_nanos()).expect("not so long") + 1
    }

    /// Whether work runs: what the rule of safety is about.
    fn works(&self) -> bool {
        let sessions = self.user.sessions.iter().any(|session| session.doing.is_some());
        self.daemon.builds > 0 || (self.user_up && (sessions || !self.user.jobs.is_empty()))
    }

    /// Called after whatever changes that.
    fn note_work(&mut self) {
        if self.works() {
            (self.quiet, self.worked) = (None, true);
        } else if self.quiet.is_none() {
            self.quiet = Some(self.now);
        }
    }

    fn happened(&mut self, source: &str) {
        self.user.last = Some(Moment { at: self.nanos(), source: source.into() });
        // An event is work that was over at once.
        self.quiet = self.quiet.map(|_| self.now);
    }

    /// One event.
    fn event(&mut self) {
        let build_may_begin = self.daemon_up && self.daemon_open;
        match self.rng.u32(0..22) {
            0..=2 if build_may_begin => {
                self.daemon.builds += 1;
                self.daemon.last_build = self.wall;
                self.say("a build begins");
            }
            3..=5 if self.daemon_up && self.daemon.builds > 0 => {
                self.daemon.builds -= 1;
                self.daemon.last_build = self.wall;
                self.say("a build ends");
            }
            6..=8 if self.user_up => self.comes(),
            9..=11 if self.user_up && self.user_open && !self.user.sessions.is_empty() => {
                self.session_turns()
            }
            12 if self.user_up && !self.user.sessions.is_empty() => self.session_ends(),
            13 if self.user_up && self.user_open => {
                self.user.jobs.push("1".into());
                self.say("a job begins");
            }
            14 if self.user_up && !self.user.jobs.is_empty() => {
                self.user.jobs.pop();
                self.happened("job");
                self.say("a job ends");
            }
            15 if self.user_up && self.user_open => {
                let seconds = self.rng.u64(1..=3 * self.timeout.as_secs());
                let ends = self.nanos() + seconds * 1_000_000_000;
                let (until, reason, by) = (self.wall + seconds, String::new(), "me@here".into());
                self.user.hold = Some(Hold { until, ends, reason, by });
                self.say(format!("a hold of {seconds} s"));
            }
            16 if self.user_up => {
                self.user.hold = None;
                self.say("released");
            }
            17 => {
                let step = self.rng.u64(1..100_000_000);
                self.wall = if self.rng.bool() { self.wall + step } else { self.wall - step };
                self.say("the clock is set");
            }
            18 => self.user_dies_or_comes(),
            19 => self.daemon_dies_or_comes(),
            20 => {
                self.api_up = !self.api_up;
                self.say(format!("the API server answers: {}", self.api_up));
            }
            21 => {
                self.version += 1;
                self.say("a client writes on the StatefulSet");
            }
            _ => {}
        }
        self.note_work();
    }

    /// Somebody comes: is let in, or waits for the decision.
    fn comes(&mut self) {
        if !self.user_open {
            self.waiting += 1;
            self.say("a session waits");
            return;
        }
        let doing = Some("begins".to_owned());
        let (kind, command) = (SessionKind::Ssh, String::new());
        self.user.sessions.push(Session { pid: 1, kind, command, since: self.wall, doing });
        self.happened("session");
        self.say("a session begins");
    }

    /// Silent sessions stay: ghosts.
    fn session_turns(&mut self) {
        let index = self.rng.usize(0..self.user.sessions.len());
        let works = self.user.sessions[index].doing.is_some();
        self.user.sessions[index].doing = (!works).then(|| "cpu".to_owned());
        self.happened("session");
        self.say(if works { "a session falls silent" } else { "a session works again" });
    }

    fn session_ends(&mut self) {
        let index = self.rng.usize(0..self.user.sessions.len());
        if self.user.sessions.swap_remove(index).doing.is_some() {
            self.happened("session");
        }
        self.say("a session ends");
    }

    /// The container of user-init: with it goes all that ran there.
    fn user_dies_or_comes(&mut self) {
        if self.user_up {
            self.user_up = false;
            self.waiting = 0;
            self.say("user-init is killed");
        } else if self.user_serves {
            self.user_serves = false;
            self.say("user-init starts");
        } else {
            let hold = self.user.hold.take();
            self.user = UserActivity { hold, ..UserActivity::quiet(life()) };
            (self.user_up, self.user_serves, self.user_open) = (true, true, true);
            self.happened("start");
            self.say("user-init serves");
            // The new one reads what the monitor says.
            if let Some(stop) = self.stop.clone() {
                match stop.phase {
                    StopPhase::Ask => self.user_answers(stop.generation),
                    StopPhase::Final => self.user_open = false,
                    StopPhase::Open => {}
                }
            }
            self.quiet = self.quiet.map(|_| self.now);
        }
    }

    fn daemon_dies_or_comes(&mut self) {
        self.daemon_up = !self.daemon_up;
        self.daemon_open = true;
        if self.daemon_up {
            self.daemon_since += 1;
            self.quiet = self.quiet.map(|_| self.now);
        } else {
            self.daemon.builds = 0;
        }
        let generation = self.stop.as_ref().filter(|stop| stop.phase == StopPhase::Ask).map(|s| s.generation);
        self.say(format!("the daemon serves: {}", self.daemon_up));
        if let (true, Some(generation)) = (self.daemon_up, generation) {
            self.daemon_answers(generation);
        }
    }

    fn asked(&self, generation: u64) -> bool {
        self.stop.as_ref().is_some_and(|s| s.phase == StopPhase::Ask && s.generation == generation)
    }

    fn user_answers(&mut self, generation: u64) {
        if !self.user_up || !self.asked(generation) {
            return;
        }
        self.user_open = false;
        let sessions = self.user.sessions.iter().filter(|session| session.doing.is_some()).count();
        let work = u32::try_from(sessions + self.user.jobs.len()).expect("few");
        self.acks[1] = Some(StopAck { life: life(), generation, work });
        self.say(format!("user-init answers {generation}: {work}"));
    }

    fn daemon_answers(&mut self, generation: u64) {
        if !self.daemon_up || !self.asked(generation) {
            return;
        }
        self.daemon_open = false;
        self.acks[0] = Some(StopAck { life: life(), generation, work: self.daemon.builds });
        self.say(format!("the daemon answers {generation}: {}", self.daemon.builds));
    }

    fn later(&mut self, most: u64, what: Coming) {
        let delay = Duration::from_millis(self.rng.u64(1..=most));
        self.coming.push((self.now + delay, what));
    }

    /// Something arrives; the answer, if it is one for the monitor.
    fn arrives(&mut self, what: Coming) -> Option<Answer> {
        match what {
            Coming::DaemonAnswers(generation) => self.daemon_answers(generation),
            Coming::UserAnswers(generation) => self.user_answers(generation),
            Coming::UserHears(StopPhase::Open)
                if self.stop.as_ref().is_some_and(|stop| stop.phase == StopPhase::Open) =>
            {
                (self.user_open, self.daemon_open) = (self.user_up || self.user_open, true);
                for _ in 0..std::mem::take(&mut self.waiting) {
                    self.comes();
                }
                self.note_work();
            }
            Coming::UserHears(_) => {}
            Coming::Api(_) if !self.api_up => {
                let refusal = Refusal::Trouble("away".into());
                self.say("the API server does not answer");
                return Some(Answer::Stop(Err(refusal)));
            }
            Coming::Api(Call::Read) => {
                let scale = Scale { version: self.version.to_string(), replicas: self.replicas };
                return Some(Answer::Scale(Ok(scale)));
            }
            Coming::Api(Call::Stop { version }) => {
                if version != self.version.to_string() {
                    self.say("the API server: changed meanwhile");
                    return Some(Answer::Stop(Err(Refusal::Conflict)));
                }
                if self.works() {
                    self.fail("it stops a builder in which work runs");
                }
                self.version += 1;
                self.replicas = 0;
                self.say("the API server: scaled to zero");
                return Some(Answer::Stop(Ok(())));
            }
        }
        None
    }

    /// The rule of safety.
    fn must_be_idle(&mut self) {
        self.note_work();
        let Some(quiet) = self.quiet else { self.fail("it stops a builder in which work runs") };
        // When a build was seen is published to the second.
        if self.now + Duration::from_secs(1) < quiet + self.timeout {
            self.fail("it stops a builder that was not idle for long enough");
        }
        if self.user.hold.as_ref().is_some_and(|hold| self.user_up && hold.ends > self.nanos()) {
            self.fail("it stops a builder that is held");
        }
        // user-init may have died behind its answer, which is not seen at once: nobody has come in since.
        if !self.daemon_up || !self.user_serves {
            self.fail("it stops a builder in which an agent has died");
        }
    }

    /// All ends, all is well, and nothing happens any more.
    fn leave_alone(&mut self) {
        while !self.user_up {
            self.user_dies_or_comes();
        }
        if !self.daemon_up {
            self.daemon_dies_or_comes();
        }
        self.api_up = true;
        (self.daemon.builds, self.waiting) = (0, 0);
        self.user.jobs.clear();
        self.user.sessions.iter_mut().for_each(|session| session.doing = None);
        if self.user_open {
            self.happened("end");
        }
        self.note_work();
        self.alone = Some(self.now);
        self.say("all is left alone");
    }

    /// The rule of liveness: by then it must have stopped.
    fn latest(&self) -> Option<Duration> {
        let alone = self.alone?;
        let held = self.user.hold.as_ref().map_or(Duration::ZERO, |hold| Duration::from_nanos(hold.ends));
        let of_engine = if self.end == StopEnd::Leave { Duration::ZERO } else { RETRY_MAX + 2 * AGAIN };
        // Who is there is told first; a question may have been asked in vain.
        Some((alone + self.timeout).max(held) + NOTICE + ANSWER + AGAIN + of_engine)
    }
}

impl watch::World for World {
    fn end(&self) -> StopEnd {
        self.end
    }
    fn now(&self) -> Instant {
        self.at(self.now)
    }
    fn wall(&self) -> u64 {
        self.wall
    }
    fn nanoseconds(&self) -> u64 {
        self.nanos()
    }
    fn look(&mut self) -> Seen {
        let (now, nanoseconds) = (self.at(self.now), self.nanos());
        let config = contract::config::Shutdown::default();
        let at = |m: &Moment| (now - Duration::from_nanos(nanoseconds - m.at), m.source.clone());
        Seen {
            ready: self.daemon_up,
            daemon_since: self.daemon_since,
            user_serves: self.user_serves,
            daemon: Some(self.daemon.clone()),
            user: Some(self.user.clone()),
            last: self.user.last.as_ref().map(at),
            keeps: keeps::all(self.user.hold.as_ref(), &config, now, nanoseconds, self.wall),
            daemon_ack: self.acks[0].clone(),
            user_ack: self.acks[1].clone(),
            idle_timeout: Some(self.timeout),
        }
    }
    fn former_request(&mut self) -> Option<StopRequest> {
        self.stop.clone()
    }
    fn former_idle(&mut self) -> Option<IdleStatus> {
        self.idle.clone()
    }
    fn request(&mut self, request: &StopRequest) -> io::Result<()> {
        if self.alone.is_none() && self.rng.u32(0..20) == 0 {
            self.say("the monitor is killed before it can write");
            return Err(io::Error::other("killed"));
        }
        self.say(format!("the monitor says {:?} {}", request.phase, request.generation));
        self.stop = Some(request.clone());
        let generation = request.generation;
        match request.phase {
            StopPhase::Ask => {
                // Sometimes later than the monitor waits, as long as anything may happen.
                let most = if self.alone.is_none() && self.rng.u32(0..4) == 0 { 15_000 } else { 900 };
                self.later(most, Coming::DaemonAnswers(generation));
                self.later(most, Coming::UserAnswers(generation));
            }
            StopPhase::Open => {
                self.reopened += 1;
                self.later(900, Coming::UserHears(StopPhase::Open));
            }
            StopPhase::Final if self.end == StopEnd::Leave => {
                self.must_be_idle();
                self.over = true;
            }
            StopPhase::Final => {}
        }
        Ok(())
    }
    fn show(&mut self, idle: &IdleStatus) {
        self.idle = Some(idle.clone());
    }
    fn note(&mut self, text: &str) {
        self.say(format!("the monitor notes: {text}"));
    }
    fn trouble(&mut self, _why: Option<&str>) {}
    fn call(&mut self, call: Call) {
        // The order cannot be called back.
        if matches!(call, Call::Stop { .. }) {
            self.must_be_idle();
        }
        // It takes the place of one that was not answered.
        self.coming.retain(|(_, what)| !matches!(what, Coming::Api(_)));
        let most = if self.alone.is_none() && self.rng.u32(0..8) == 0 { 35_000 } else { 900 };
        self.later(most, Coming::Api(call));
    }

    async fn wait(&mut self, until: Option<Instant>) -> io::Result<Woken> {
        let stopped = self.stop.as_ref().is_some_and(|stop| stop.phase == StopPhase::Final);
        if stopped && self.replicas == 0 {
            // Mostly the engine's signal comes; else a client was faster, and the builder is wanted.
            if self.alone.is_some() || self.rng.u32(0..3) > 0 {
                self.over = true;
                return Ok(Woken::Leave);
            }
            (self.replicas, self.version) = (1, self.version + 1);
            self.say("a client wakes it before it was ended");
        }
        if self.alone.is_none() && self.rng.u32(0..40) == 0 {
            self.say("the monitor is killed");
            // What its calls bring is nobody's.
            self.coming.retain(|(_, what)| !matches!(what, Coming::Api(_)));
            return Ok(Woken::Leave);
        }
        let timer = until.map(|until| until.saturating_duration_since(self.start));
        let arrival = self.coming.iter().map(|(at, _)| *at).min();
        let event = (self.events > 0).then(|| {
            let most = u64::try_from(self.timeout.as_millis()).expect("short") * 6 / 5;
            self.now + Duration::from_millis(self.rng.u64(1..most))
        });
        let Some(next) = [timer, arrival, event].into_iter().flatten().min() else {
            self.fail("nothing is waited for, and nothing will come");
        };
        let next = next.max(self.now);
        self.wall += next.as_secs() - self.now.as_secs();
        self.now = next;
        if self.latest().is_some_and(|latest| self.now > latest) {
            self.fail("it does not stop a builder that is idle");
        }
        if arrival == Some(next) {
            let index = self.coming.iter().position(|(at, _)| *at == next).expect("it comes now");
            let (_, what) = self.coming.swap_remove(index);
            let call = matches!(what, Coming::Api(Call::Read));
            return Ok(match self.arrives(what) {
                Some(Answer::Stop(Err(refusal))) if call => Woken::Answer(Answer::Scale(Err(refusal))),
                Some(answer) => Woken::Answer(answer),
                None => Woken::Look,
            });
        }
        if event == Some(next) && timer != Some(next) {
            // Several at once are told as one.
            for _ in 0..self.rng.u32(1..4) {
                self.event();
            }
            self.events = self.events.saturating_sub(1);
            if self.events == 0 {
                self.leave_alone();
            }
        }
        Ok(Woken::Look)
    }
}
