use std::collections::VecDeque;
use std::time::Duration;

use contract::handshake::{DaemonActivity, StopAck, UserActivity};

use super::*;
use crate::engine::{Refusal, Scale};

const IDLE: Duration = Duration::from_secs(1800);
/// Nanoseconds that the machine has run when a script begins.
const BOOTED: u64 = 5_000_000_000_000;

fn life() -> Life {
    Life("boot:1".into())
}

type Step = Box<dyn FnOnce(&mut Script) -> Woken>;

/// Plays a script: each wait takes the next step, which changes the world or lets the time pass. What is done is recorded.
struct Script {
    end: StopEnd,
    start: Instant,
    now: Instant,
    wall: u64,
    seen: Seen,
    former: Option<StopRequest>,
    former_idle: Option<IdleStatus>,
    steps: VecDeque<Step>,
    /// Until when the present wait would last.
    until: Option<Instant>,
    record: Vec<String>,
}

impl World for Script {
    fn end(&self) -> StopEnd {
        self.end
    }
    fn now(&self) -> Instant {
        self.now
    }
    fn wall(&self) -> u64 {
        self.wall
    }
    fn nanoseconds(&self) -> u64 {
        u64::try_from(self.now.duration_since(self.start).as_nanos()).unwrap() + BOOTED
    }
    fn former_idle(&mut self) -> Option<IdleStatus> {
        self.former_idle.clone()
    }
    fn look(&mut self) -> Seen {
        self.seen.clone()
    }
    fn former_request(&mut self) -> Option<StopRequest> {
        self.former.clone()
    }
    fn request(&mut self, r: &StopRequest) -> io::Result<()> {
        self.record.push(format!("{:?} {} {:?} {}", r.phase, r.generation, r.reason, r.last_activity));
        Ok(())
    }
    fn show(&mut self, idle: &IdleStatus) {
        self.record.push(format!("show {} {} {:?}", idle.source, idle.last_activity, idle.stops_at));
    }
    fn note(&mut self, text: &str) {
        self.record.push(format!("note {text}"));
    }
    fn trouble(&mut self, why: Option<&str>) {
        self.record.push(format!("trouble {}", why.unwrap_or("over")));
    }
    fn call(&mut self, call: Call) {
        self.record.push(match call {
            Call::Read => "read".into(),
            Call::Stop { version, .. } => format!("stop {version}"),
        });
    }
    async fn wait(&mut self, until: Option<Instant>) -> io::Result<Woken> {
        self.until = until;
        let step = self.steps.pop_front().expect("the script is over, and it still waits");
        Ok(step(self))
    }
}

/// Lets the wait last as long as it would.
fn timer() -> Step {
    Box::new(|s| {
        let until = s.until.expect("a wait without end");
        s.wall += until.duration_since(s.now).as_secs();
        s.now = until;
        Woken::Look
    })
}

/// Something changes after a while.
fn after(seconds: u64, change: impl FnOnce(&mut Script) + 'static) -> Step {
    Box::new(move |s| {
        s.now += Duration::from_secs(seconds);
        s.wall += seconds;
        assert!(s.until.is_none_or(|until| until >= s.now), "the timer would have come first");
        change(s);
        Woken::Look
    })
}

fn play(former: Option<StopRequest>, steps: Vec<Step>) -> (io::Result<Ended>, Vec<String>) {
    play_as(StopEnd::Leave, former, steps)
}

fn play_as(end: StopEnd, former: Option<StopRequest>, steps: Vec<Step>) -> (io::Result<Ended>, Vec<String>) {
    play_after(end, former, None, steps)
}

fn play_after(
    end: StopEnd,
    former: Option<StopRequest>,
    former_idle: Option<IdleStatus>,
    steps: Vec<Step>,
) -> (io::Result<Ended>, Vec<String>) {
    let seen = Seen { idle_timeout: Some(IDLE), ..Seen::default() };
    let now = Instant::now();
    let mut script = Script {
        end,
        start: now,
        now,
        wall: 1_000_000,
        seen,
        former,
        former_idle,
        steps: steps.into(),
        until: None,
        record: vec![],
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ended = runtime.block_on(watch(&mut script, &life()));
    assert!(script.steps.is_empty(), "{} steps were not played", script.steps.len());
    (ended, script.record)
}

fn ready(s: &mut Script) {
    (s.seen.ready, s.seen.user_serves) = (true, true);
    s.seen.daemon = Some(DaemonActivity { life: life(), builds: 0, begun: 0, last_build: 0 });
    s.seen.user = Some(UserActivity::quiet(life()));
}

fn builds(n: u32) -> impl FnOnce(&mut Script) {
    move |s| s.seen.daemon.as_mut().unwrap().builds = n
}

fn answer(generation: u64) -> impl FnOnce(&mut Script) {
    move |s| {
        s.seen.daemon_ack = Some(StopAck { life: life(), generation, work: 0 });
        s.seen.user_ack = Some(StopAck { life: life(), generation, work: 0 });
    }
}

#[test]
fn a_whole_life() {
    let (ended, record) = play(
        None,
        vec![
            after(20, ready),
            after(100, builds(1)),
            // A build longer than the idle time.
            after(4000, builds(0)),
            timer(),
            // Nobody answers the first time.
            timer(),
            // The clock is set back by a day: nothing but the display changes.
            after(30, |s| s.wall -= 86_400),
            timer(),
            after(1, answer(2)),
        ],
    );
    assert_eq!(ended.unwrap(), Ended::Stopped);
    assert_eq!(
        record,
        [
            "show waiting for the daemon 1000000 None",
            "show start 1000020 Some(1001820)",
            "show build 1000120 None",
            "show build 1004120 Some(1005920)",
            "Ask 1 \"idle for 30m\" 1004120",
            "show build 1004120 Some(1005990)",
            "note the daemon container has not answered in time",
            "Open 1 \"\" 1004120",
            "Ask 2 \"idle for 30m\" 917720",
            "Final 2 \"idle for 30m\" 917720",
        ]
    );
}

#[test]
fn a_signal_ends_it_without_a_word() {
    let (ended, record) = play(None, vec![after(20, ready), Box::new(|_| Woken::Leave)]);
    assert_eq!(ended.unwrap(), Ended::Asked);
    assert!(record.iter().all(|line| line.starts_with("show")), "{record:?}");
}

fn former(phase: StopPhase) -> StopRequest {
    StopRequest {
        life: life(),
        generation: 7,
        phase,
        end: StopEnd::Leave,
        reason: "idle".into(),
        last_activity: 0,
    }
}

#[test]
fn a_question_of_the_monitor_before_us_is_taken_back() {
    let steps = vec![after(20, ready), after(1, answer(7)), timer(), after(1, answer(8))];
    let (ended, record) = play(Some(former(StopPhase::Ask)), steps);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    let requests: Vec<_> = record.iter().filter(|line| !line.starts_with("show")).collect();
    assert_eq!(requests[0], "Open 7 \"\" 1000000");
    assert!(requests[1].starts_with("Ask 8 ") && requests[2].starts_with("Final 8 "), "{record:?}");
    assert_eq!(requests.len(), 3);
}

#[test]
fn what_was_final_stays_final() {
    let (ended, record) = play(Some(former(StopPhase::Final)), vec![]);
    assert_eq!(ended.unwrap(), Ended::Stopped);
    assert_eq!(record, [""; 0]);
}

fn given(answer: Answer) -> Step {
    Box::new(|_| Woken::Answer(answer))
}

fn scale(version: &str, replicas: u32) -> Step {
    given(Answer::Scale(Ok(Scale { version: version.into(), replicas })))
}

#[test]
fn a_whole_life_in_a_cluster() {
    let (ended, record) = play_as(
        StopEnd::AwaitSignal,
        None,
        vec![
            after(20, ready),
            timer(),
            given(Answer::Scale(Err(Refusal::Trouble("forbidden".into())))),
            timer(),
            scale("5", 1),
            after(1, answer(1)),
            // A client was faster.
            given(Answer::Stop(Err(Refusal::Conflict))),
            timer(),
            scale("6", 1),
            after(1, answer(2)),
            given(Answer::Stop(Ok(()))),
            // No signal comes: another client was faster than the cluster.
            timer(),
            scale("7", 1),
            timer(),
            scale("7", 1),
            after(1, answer(3)),
            given(Answer::Stop(Ok(()))),
            Box::new(|_| Woken::Leave),
        ],
    );
    assert_eq!(ended.unwrap(), Ended::Asked);
    let record: Vec<_> = record.iter().filter(|line| !line.starts_with("show")).collect();
    assert_eq!(
        record,
        [
            "read",
            "trouble forbidden",
            "read",
            "trouble over",
            "Ask 1 \"idle for 30m\" 1000020",
            "stop 5",
            "note somebody has changed the StatefulSet meanwhile, most likely a client that wants the builder",
            "Open 1 \"\" 1001831",
            "read",
            "Ask 2 \"idle for 30m\" 1001831",
            "stop 6",
            "Final 2 \"idle for 30m\" 1001831",
            "read",
            "note somebody has set the scale again before the pod was ended",
            "Open 2 \"\" 1003634",
            "read",
            "Ask 3 \"idle for 30m\" 1003634",
            "stop 7",
            "Final 3 \"idle for 30m\" 1003634",
        ]
    );
}
