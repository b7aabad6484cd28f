use contract::handshake::{StopEnd, StopPhase};

use super::super::ANSWER;
use super::super::tests::{IDLE, ack, building, phase, quiet};
use super::*;
use crate::engine::Scale;

const SECOND: Duration = Duration::from_secs(1);

fn answered(generation: u64) -> Seen {
    Seen { daemon_ack: ack(generation, 0), user_ack: ack(generation, 0), ..quiet() }
}

fn scale(version: &str, replicas: u32) -> Option<Answer> {
    Some(Answer::Scale(Ok(Scale { version: version.into(), replicas })))
}

fn refused() -> Refusal {
    Refusal::Trouble("forbidden".into())
}

/// A judge that has asked for the scale at the returned moment.
fn reading() -> (Judge, Instant) {
    let start = Instant::now();
    let mut judge = Judge::new(start, 0, StopEnd::AwaitSignal);
    judge.look(&quiet(), None, start);
    let now = start + IDLE;
    let verdict = judge.look(&quiet(), None, now);
    assert_eq!((verdict.stop, verdict.call), (None, Some(Call::Read)), "the scale first");
    assert_eq!(verdict.again, Some(now + CALL));
    (judge, now)
}

/// One whose agents have answered, and that has told the engine to stop.
fn scaling() -> (Judge, Instant) {
    let (mut judge, now) = reading();
    assert_eq!(phase(&judge.look(&quiet(), scale("41", 1), now)), Some(StopPhase::Ask));
    let verdict = judge.look(&answered(1), None, now + SECOND);
    assert_eq!(verdict.stop, None, "not final before the engine has agreed");
    assert_eq!(
        verdict.call,
        Some(Call::Stop { version: "41".into() }),
        "of what was read before anybody was asked"
    );
    (judge, now + SECOND)
}

/// One that has stopped the builder.
fn stopped() -> (Judge, Instant) {
    let (mut judge, now) = scaling();
    let verdict = judge.look(&answered(1), Some(Answer::Stop(Ok(()))), now);
    assert_eq!(verdict.stop, Some((StopPhase::Final, "idle for 30m".into())));
    assert_eq!(verdict.again, Some(now + LOOK));
    (judge, now)
}

#[test]
fn work_before_anybody_was_asked_is_no_event() {
    let (mut judge, now) = reading();
    let verdict = judge.look(&building(), None, now + SECOND);
    assert_eq!((verdict.stop, verdict.call, verdict.note), (None, None, None));
    // The answer comes too late and means nothing.
    assert_eq!(judge.look(&building(), scale("41", 1), now + SECOND * 2).stop, None);
    assert_eq!(judge.look(&quiet(), None, now + SECOND * 3).again, Some(now + SECOND * 3 + IDLE));
}

#[test]
fn a_change_since_it_was_read_is_somebody_who_wants_the_builder() {
    let (mut judge, now) = scaling();
    let verdict = judge.look(&answered(1), Some(Answer::Stop(Err(Refusal::Conflict))), now);
    assert_eq!((phase(&verdict), verdict.again), (Some(StopPhase::Open), Some(now + IDLE)));
    assert_eq!((judge.idle().source.as_str(), judge.trouble()), ("wanted by a client", None));
    // Judged anew, from the scale on.
    let verdict = judge.look(&quiet(), None, now + IDLE);
    assert_eq!((verdict.stop, verdict.call), (None, Some(Call::Read)));
}

#[test]
fn a_refusal_opens_again_says_why_and_is_tried_again() {
    let (mut judge, now) = scaling();
    let verdict = judge.look(&answered(1), Some(Answer::Stop(Err(refused()))), now);
    assert_eq!((phase(&verdict), verdict.again), (Some(StopPhase::Open), Some(now + RETRY)));
    assert_eq!((verdict.note.as_deref(), judge.trouble()), (Some("forbidden"), Some("forbidden")));
    // Nobody is asked as long as the engine does not even tell its scale.
    let mut now = now + RETRY;
    for pause in [20, 40, 80, 160, 300, 300] {
        assert_eq!(judge.look(&quiet(), None, now).call, Some(Call::Read));
        let verdict = judge.look(&quiet(), Some(Answer::Scale(Err(refused()))), now);
        let again = now + SECOND * pause;
        assert_eq!((verdict.stop, verdict.again), (None, Some(again)));
        assert_eq!(judge.look(&quiet(), None, again - SECOND).call, None);
        now = again;
    }
    judge.look(&quiet(), None, now);
    assert_eq!(phase(&judge.look(&quiet(), scale("42", 1), now)), Some(StopPhase::Ask));
    assert_eq!(judge.trouble(), None);
    let verdict = judge.look(&answered(2), None, now);
    assert_eq!(verdict.call, Some(Call::Stop { version: "42".into() }));
}

#[test]
fn silence_is_a_refusal() {
    let (mut judge, now) = reading();
    assert_eq!(judge.look(&quiet(), None, now + CALL - SECOND).stop, None);
    let verdict = judge.look(&quiet(), None, now + CALL);
    assert_eq!((verdict.stop, verdict.again), (None, Some(now + CALL + RETRY)));
    assert!(judge.trouble().is_some());
    let (mut judge, now) = scaling();
    assert_eq!(phase(&judge.look(&answered(1), None, now + CALL)), Some(StopPhase::Open));
    // Work that goes on meanwhile neither hurries nor hinders the order that is out.
    let (mut judge, now) = scaling();
    assert_eq!(judge.look(&building(), None, now).stop, None);
    assert_eq!(phase(&judge.look(&building(), Some(Answer::Stop(Ok(()))), now)), Some(StopPhase::Final));
}

#[test]
fn a_stop_that_somebody_undid_before_the_signal_is_taken_back() {
    let (mut judge, now) = stopped();
    assert_eq!(judge.look(&answered(1), None, now + LOOK / 2).call, None);
    let mut now = now + LOOK;
    // The cluster is slow, then away, then slow: still stopped.
    for (answer, pause) in [
        (scale("43", 0), 4),
        (Some(Answer::Scale(Err(refused()))), 8),
        (scale("43", 0), 16),
        (scale("43", 0), 16),
    ] {
        assert_eq!(judge.look(&answered(1), None, now).call, Some(Call::Read));
        let verdict = judge.look(&answered(1), answer, now);
        assert_eq!((verdict.stop, verdict.again), (None, Some(now + SECOND * pause)));
        now += SECOND * pause;
    }
    judge.look(&answered(1), None, now);
    let verdict = judge.look(&answered(1), scale("44", 1), now);
    assert_eq!((phase(&verdict), verdict.again), (Some(StopPhase::Open), Some(now + IDLE)));
    // The same for a monitor that was started again.
    let mut judge = Judge::stopped(now, 1, StopEnd::AwaitSignal);
    assert_eq!(judge.look(&answered(1), None, now + LOOK).call, Some(Call::Read));
    assert_eq!(phase(&judge.look(&answered(1), scale("44", 1), now + LOOK)), Some(StopPhase::Open));
}

/// What the API server does with a call in a history.
fn answer_of(fate: u64, call: &Call) -> Option<Answer> {
    match (fate, call) {
        (0, Call::Read) => scale("7", 1),
        (0, Call::Stop { .. }) => Some(Answer::Stop(Ok(()))),
        (1, Call::Stop { .. }) => Some(Answer::Stop(Err(Refusal::Conflict))),
        (1 | 2, Call::Read) => Some(Answer::Scale(Err(refused()))),
        (2, Call::Stop { .. }) => Some(Answer::Stop(Err(refused()))),
        // Away, without a word.
        _ => None,
    }
}

/// Whatever the API server does for a while: nothing is final without its agreement, admission is never closed for longer than the
/// waits allow, and when it is well again an idle builder stops.
#[test]
fn any_history_of_failures_ends_in_a_stop_that_was_agreed_on() {
    for history in 0..4096u64 {
        // Six calls with a fate of four each; then all is well.
        let mut fates = (0..6).map(|i| (history >> (2 * i)) & 3);
        let start = Instant::now();
        let (mut now, mut judge) = (start, Judge::new(start, 0, StopEnd::AwaitSignal));
        let (mut pending, mut generation, mut closed, mut well_since) = (None, 0, None, None);
        loop {
            let answer: Option<Answer> = pending.take();
            let agreed = answer == Some(Answer::Stop(Ok(())));
            let seen = answered(generation);
            let verdict = judge.look(&seen, answer, now);
            match phase(&verdict) {
                Some(StopPhase::Final) => {
                    assert!(agreed, "final without the engine's agreement in history {history:06o}");
                    break;
                }
                Some(StopPhase::Ask) => {
                    closed = Some(now);
                    generation = judge.generation();
                    continue;
                }
                Some(StopPhase::Open) => closed = None,
                None => {}
            }
            if let Some(call) = &verdict.call {
                let fate = fates.next();
                well_since = well_since.or(fate.is_none().then_some(now));
                pending = answer_of(fate.unwrap_or(0), call);
            }
            if pending.is_none() {
                now = verdict.again.expect("it looks again");
            }
            assert!(
                closed.is_none_or(|at| now <= at + ANSWER + CALL),
                "closed for too long in {history:06o}"
            );
            let late = well_since.is_some_and(|at| now > at + RETRY_MAX + IDLE);
            assert!(!late, "it does not stop in history {history:06o}");
        }
    }
}
