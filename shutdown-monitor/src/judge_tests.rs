use contract::handshake::{Keep, Life, Session, SessionKind};

use super::*;

pub(super) const IDLE: Duration = Duration::from_secs(1800);
const MINUTE: Duration = Duration::from_secs(60);

fn life() -> Life {
    Life("boot:1".into())
}

pub(crate) fn session(doing: Option<&str>) -> Session {
    let doing = doing.map(str::to_owned);
    Session { pid: 7, kind: SessionKind::Ssh, command: String::new(), since: 0, doing }
}

pub(super) fn ack(generation: u64, work: u32) -> Option<StopAck> {
    Some(StopAck { life: life(), generation, work })
}

/// A ready builder in which nothing goes on.
pub(crate) fn quiet() -> Seen {
    Seen {
        ready: true,
        user_serves: true,
        daemon: Some(DaemonActivity { life: life(), builds: 0, begun: 0, last_build: 0 }),
        user: Some(UserActivity::quiet(life())),
        daemon_ack: None,
        user_ack: None,
        idle_timeout: Some(IDLE),
        ..Seen::default()
    }
}

pub(crate) fn building() -> Seen {
    let mut seen = quiet();
    seen.daemon.as_mut().unwrap().builds = 1;
    seen
}

pub(super) fn phase(verdict: &Verdict) -> Option<StopPhase> {
    verdict.stop.as_ref().map(|stop| stop.0)
}

/// A judge that has asked at the returned moment, with generation 1.
fn asked() -> (Judge, Instant) {
    let start = Instant::now();
    let mut judge = Judge::new(start, 0, StopEnd::Leave);
    assert_eq!(judge.look(&quiet(), None, start).again, Some(start + IDLE));
    let verdict = judge.look(&quiet(), None, start + IDLE);
    assert_eq!(verdict.stop, Some((StopPhase::Ask, "idle for 30m".into())));
    assert_eq!((judge.generation(), verdict.again), (1, Some(start + IDLE + ANSWER)));
    (judge, start + IDLE)
}

#[test]
fn an_idle_builder_is_asked_and_stopped() {
    let (mut judge, now) = asked();
    let mut seen = quiet();
    seen.daemon_ack = ack(1, 0);
    assert_eq!(phase(&judge.look(&seen, None, now + MINUTE / 60)), None, "one answer is not enough");
    seen.user_ack = ack(1, 0);
    let verdict = judge.look(&seen, None, now + MINUTE / 30);
    assert_eq!(verdict.stop, Some((StopPhase::Final, "idle for 30m".into())));
    assert_eq!(verdict.again, None);
    // Never taken back.
    assert_eq!(phase(&judge.look(&building(), None, now + MINUTE)), None);
}

#[test]
fn a_second_before_nothing_is_asked() {
    let start = Instant::now();
    let mut judge = Judge::new(start, 0, StopEnd::Leave);
    judge.look(&quiet(), None, start);
    assert_eq!(phase(&judge.look(&quiet(), None, start + IDLE - MINUTE / 60)), None);
}

#[test]
fn the_count_begins_when_work_ends() {
    let start = Instant::now();
    let mut busy_user = quiet();
    busy_user.user.as_mut().unwrap().sessions.push(session(Some("cpu")));
    let mut with_job = quiet();
    with_job.user.as_mut().unwrap().jobs.push("1".into());
    for (busy, source) in [(building(), "build"), (busy_user, "session (ssh): cpu"), (with_job, "job")] {
        let mut judge = Judge::new(start, 0, StopEnd::Leave);
        let later = start + 10 * IDLE;
        judge.look(&busy, None, start);
        let verdict = judge.look(&busy, None, later);
        assert_eq!((phase(&verdict), verdict.again), (None, None), "{source}");
        assert_eq!((judge.idle().source.as_str(), judge.idle().stops_at), (source, None));
        let over = judge.look(&quiet(), None, later + MINUTE);
        assert_eq!((phase(&over), over.again), (None, Some(later + MINUTE + IDLE)), "{source}");
    }
}

#[test]
fn work_between_two_looks_counts_whatever_the_clock_says() {
    let start = Instant::now();
    let mut judge = Judge::new(start, 0, StopEnd::Leave);
    let mut seen = quiet();
    seen.daemon.as_mut().unwrap().last_build = 1_900_000_000;
    judge.look(&seen, None, start);
    // The wall clock steps back by years; only the change counts.
    seen.daemon.as_mut().unwrap().last_build = 5;
    let now = start + IDLE - MINUTE;
    assert_eq!(judge.look(&seen, None, now).again, Some(now + IDLE));
    assert_eq!(judge.idle().source, "build");
    let session = Some((now + MINUTE / 2, "session (ssh): terminal".to_owned()));
    seen.last = session.clone();
    assert_eq!(judge.look(&seen, None, now + MINUTE).again, Some(now + MINUTE / 2 + IDLE), "when it was");
    assert_eq!(judge.idle().source, "session (ssh): terminal");
    assert_eq!(judge.look(&seen, None, now + 2 * MINUTE).again, Some(now + MINUTE / 2 + IDLE), "once");
}

#[test]
fn whoever_is_not_known_is_not_idle() {
    let start = Instant::now();
    let mut not_ready = quiet();
    not_ready.ready = false;
    let mut no_user = quiet();
    no_user.user = None;
    let mut no_daemon = quiet();
    no_daemon.daemon = None;
    for missing in [not_ready, no_user, no_daemon, Seen::default()] {
        let mut judge = Judge::new(start, 0, StopEnd::Leave);
        let verdict = judge.look(&missing, None, start + 10 * IDLE);
        assert_eq!((phase(&verdict), verdict.again), (None, None), "{missing:?}");
        // And the count begins when it is.
        let known = start + 20 * IDLE;
        assert_eq!(judge.look(&quiet(), None, known).again, Some(known + IDLE), "{missing:?}");
    }
}

#[test]
fn work_while_asking_opens_again() {
    let mut with_session = quiet();
    with_session.user.as_mut().unwrap().sessions.push(session(Some("begins")));
    let mut short_build = quiet();
    short_build.daemon.as_mut().unwrap().last_build = 9;
    let mut gone = quiet();
    gone.ready = false;
    for seen in [with_session, short_build, gone, building()] {
        let (mut judge, now) = asked();
        let mut seen = seen;
        (seen.daemon_ack, seen.user_ack) = (ack(1, 0), ack(1, 0));
        assert_eq!(phase(&judge.look(&seen, None, now)), Some(StopPhase::Open), "{seen:?}");
        // The whole idle time again, and a generation of its own.
        judge.look(&quiet(), None, now + MINUTE);
        assert_eq!(phase(&judge.look(&quiet(), None, now + IDLE - MINUTE)), None);
        let verdict = judge.look(&quiet(), None, now + 2 * IDLE);
        assert_eq!((phase(&verdict), judge.generation()), (Some(StopPhase::Ask), 2));
    }
}

#[test]
fn an_answer_with_work_opens_again() {
    for (daemon, user) in [(ack(1, 1), ack(1, 0)), (ack(1, 0), ack(1, 2)), (None, ack(1, 1))] {
        let (mut judge, now) = asked();
        let mut seen = quiet();
        (seen.daemon_ack, seen.user_ack) = (daemon, user);
        let verdict = judge.look(&seen, None, now);
        assert_eq!((phase(&verdict), verdict.again), (Some(StopPhase::Open), Some(now + IDLE)));
        assert!(judge.idle().source.starts_with("work in the"));
    }
}

#[test]
fn answers_of_another_generation_are_void() {
    let (mut judge, now) = asked();
    let mut seen = quiet();
    for stale in [0, 2] {
        (seen.daemon_ack, seen.user_ack) = (ack(1, 0), ack(stale, 0));
        assert_eq!(judge.look(&seen, None, now).stop, None);
        // Nor does stale work open again.
        seen.user_ack = ack(stale, 5);
        assert_eq!(judge.look(&seen, None, now).stop, None);
    }
}

#[test]
fn without_an_answer_it_opens_and_asks_again_a_minute_later() {
    let (mut judge, now) = asked();
    let mut seen = quiet();
    seen.daemon_ack = ack(1, 0);
    let late = now + ANSWER;
    assert_eq!(judge.look(&seen, None, late - MINUTE / 60).stop, None);
    let verdict = judge.look(&seen, None, late);
    assert_eq!((phase(&verdict), verdict.again), (Some(StopPhase::Open), Some(late + AGAIN)));
    assert!(verdict.note.unwrap().contains("user container has not answered"));
    assert_eq!(judge.look(&seen, None, late + MINUTE / 2).stop, None);
    assert_eq!(phase(&judge.look(&seen, None, late + AGAIN)), Some(StopPhase::Ask));
    // The late answers to the first question count for nothing.
    seen.user_ack = ack(1, 0);
    assert_eq!(judge.look(&seen, None, late + AGAIN).stop, None);
    (seen.daemon_ack, seen.user_ack) = (ack(2, 0), ack(2, 0));
    assert_eq!(phase(&judge.look(&seen, None, late + AGAIN)), Some(StopPhase::Final));
}

#[test]
fn the_timeout_is_live() {
    let start = Instant::now();
    let mut judge = Judge::new(start, 0, StopEnd::Leave);
    let mut seen = quiet();
    seen.idle_timeout = None;
    assert_eq!(judge.look(&seen, None, start).again, None);
    assert_eq!(judge.look(&seen, None, start + 10 * IDLE), Verdict::default());
    // Shorter than what has passed: whoever has changed it is there.
    seen.idle_timeout = Some(IDLE);
    assert_eq!(judge.look(&seen, None, start + 11 * IDLE).again, Some(start + 12 * IDLE));
    assert_eq!(phase(&judge.look(&seen, None, start + 12 * IDLE)), Some(StopPhase::Ask));
    // Changed while asking: open again.
    seen.idle_timeout = Some(2 * IDLE);
    let verdict = judge.look(&seen, None, start + 12 * IDLE);
    assert_eq!((phase(&verdict), verdict.again), (Some(StopPhase::Open), Some(start + 14 * IDLE)));
    seen.idle_timeout = None;
    assert_eq!(judge.look(&seen, None, start + 20 * IDLE).stop, None);
}

#[test]
fn an_open_and_silent_session_keeps_nothing_and_is_told() {
    let start = Instant::now();
    let mut seen = quiet();
    seen.user.as_mut().unwrap().sessions = vec![session(None)];
    let mut judge = Judge::new(start, 0, StopEnd::Leave);
    let end = start + IDLE;
    assert_eq!(judge.look(&seen, None, start).again, Some(end - NOTICE));
    assert!(!judge.idle().soon);
    assert_eq!(judge.look(&seen, None, end - NOTICE).again, Some(end));
    assert!(judge.idle().soon);
    // A key is pressed.
    let mut awake = seen.clone();
    awake.user.as_mut().unwrap().sessions = vec![session(Some("terminal"))];
    judge.look(&awake, None, end - MINUTE);
    assert!(!judge.idle().soon);
    judge.look(&seen, None, end);
    assert_eq!(phase(&judge.look(&seen, None, end + IDLE)), None, "told late, stopped late");
    assert_eq!(phase(&judge.look(&seen, None, end + IDLE + NOTICE)), Some(StopPhase::Ask));
    // Another one comes.
    seen.last = Some((end + IDLE + NOTICE, "session (ssh): begins".into()));
    let verdict = judge.look(&seen, None, end + IDLE + NOTICE + MINUTE / 60);
    assert_eq!(phase(&verdict), Some(StopPhase::Open));
}

fn kept(what: &str, ends: Instant) -> Kept {
    Kept { ends, keep: Keep { what: what.into(), until: 0, note: String::new() } }
}

#[test]
fn what_keeps_it_ends_by_itself() {
    let start = Instant::now();
    let mut judge = Judge::new(start, 0, StopEnd::Leave);
    let mut seen = quiet();
    let (hold, window) = (start + 3 * IDLE, start + 5 * IDLE);
    seen.keeps = vec![kept("hold", hold), kept("keep-up", window)];
    // The calendar is looked at once in a while.
    assert_eq!(judge.look(&seen, None, start).again, Some(start + CALENDAR));
    assert_eq!((judge.idle().stops_at, judge.idle().keeps.len()), (Some(window), 2));
    assert_eq!(phase(&judge.look(&seen, None, window - MINUTE)), None);
    assert_eq!(judge.idle().keeps, [kept("keep-up", window)]);
    assert_eq!(phase(&judge.look(&seen, None, window)), Some(StopPhase::Ask));
    // Somebody wants it to stay after all.
    seen.keeps = vec![kept("hold", window + 2 * IDLE)];
    (seen.daemon_ack, seen.user_ack) = (ack(1, 0), ack(1, 0));
    let verdict = judge.look(&seen, None, window);
    assert_eq!((phase(&verdict), judge.idle().stops_at), (Some(StopPhase::Open), Some(window + 2 * IDLE)));
    seen.keeps.clear();
    assert_eq!(phase(&judge.look(&seen, None, window + MINUTE)), Some(StopPhase::Ask), "released");
}

#[test]
fn it_goes_on_where_the_monitor_before_it_was_ended() {
    let start = Instant::now();
    let memory = || Memory { last_activity: start, source: "build".into(), last_build: 0 };
    let judge = || Judge::new(start + 20 * MINUTE, 3, StopEnd::Leave).remembering(memory());
    let mut same = judge();
    assert_eq!(same.look(&quiet(), None, start + 20 * MINUTE).again, Some(start + IDLE));
    assert_eq!(same.idle().source, "build");
    // What has gone on meanwhile counts, when it was if that is known.
    let now = start + 20 * MINUTE;
    let mut seen = quiet();
    seen.daemon.as_mut().unwrap().last_build = 5;
    assert_eq!(judge().look(&seen, None, now).again, Some(now + IDLE));
    let mut seen = quiet();
    seen.last = Some((start + 10 * MINUTE, "job".into()));
    assert_eq!(judge().look(&seen, None, now).again, Some(start + 10 * MINUTE + IDLE));
    // Nor is whoever is not known idle now.
    let mut seen = quiet();
    seen.user_serves = false;
    let mut judge = judge();
    judge.look(&seen, None, now);
    assert_eq!(judge.look(&quiet(), None, now + MINUTE).again, Some(now + MINUTE + IDLE));
}

#[test]
fn a_restarted_monitor_goes_on_with_a_higher_generation() {
    let start = Instant::now();
    let mut judge = Judge::new(start, 41, StopEnd::Leave);
    let mut seen = quiet();
    (seen.daemon_ack, seen.user_ack) = (ack(41, 0), ack(41, 0));
    judge.look(&seen, None, start);
    assert_eq!(phase(&judge.look(&seen, None, start + IDLE)), Some(StopPhase::Ask));
    assert_eq!(judge.generation(), 42);
    assert_eq!(judge.look(&seen, None, start + IDLE).stop, None, "answers to the former monitor are void");
}
