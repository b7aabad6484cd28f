use contract::cluster::{ClusterState, StoppedBy};
use contract::handshake::LastStop;

use super::*;

const CLOSED_MAX: Duration = Duration::from_secs(24 * 3600);

fn status(state: ClusterState, trouble: Option<&str>) -> ClusterStatus {
    let builder = serde_json::from_value(serde_json::json!({ "life": "boot:1", "agents": [] })).unwrap();
    ClusterStatus { at: 1, state, version: "1".into(), builder, trouble: trouble.map(str::to_owned) }
}

fn idle() -> ClusterStatus {
    status(ClusterState::Idle, None)
}

fn stop() -> ClusterStop {
    let reason = "idle for 30m".into();
    let stop = LastStop { at: 1, reason, last_activity: 0, fs_free_bytes: 0, fs_bytes: 0 };
    ClusterStop { by: StoppedBy::Monitor, stop }
}

/// Does everything that is due.
fn settle(duties: &mut Duties, now: Instant) -> Vec<Duty> {
    let mut done = vec![];
    while let Some(duty) = duties.next(now) {
        duties.done(&duty, true, now);
        done.push(duty);
    }
    done
}

fn budgets(done: &[Duty]) -> Vec<bool> {
    done.iter()
        .filter_map(|duty| match duty {
            Duty::Budget { closed } => Some(*closed),
            _ => None,
        })
        .collect()
}

#[test]
fn what_the_monitor_before_us_left_is_put_right_at_first() {
    let now = Instant::now();
    let mut duties = Duties::default();
    assert_eq!((duties.next(now), duties.again(now)), (None, None), "nothing is known yet");
    duties.seen(None, CLOSED_MAX, idle(), now);
    let done = settle(&mut duties, now);
    assert_eq!(budgets(&done), [false]);
    assert_eq!(done.len(), 2, "{done:?}");
    assert_eq!(duties.again(now), None, "an idle builder writes nothing");
}

#[test]
fn evictions_wait_while_a_build_runs_and_not_for_every_gap() {
    let start = Instant::now();
    let mut duties = Duties::default();
    duties.seen(Some(false), CLOSED_MAX, idle(), start);
    settle(&mut duties, start);
    duties.seen(Some(true), CLOSED_MAX, idle(), start);
    assert_eq!(budgets(&settle(&mut duties, start)), [true]);
    assert!(duties.budget_closed());
    let later = start + CLOSED_MAX / 2;
    duties.seen(Some(false), CLOSED_MAX, idle(), later);
    assert_eq!((duties.next(later), duties.again(later)), (None, Some(later + GAP)));
    // The next one begins in the gap.
    duties.seen(Some(true), CLOSED_MAX, idle(), later + GAP / 2);
    assert_eq!(duties.next(later + GAP / 2), None);
    // What is not known changes nothing.
    duties.seen(None, CLOSED_MAX, idle(), later + GAP * 2);
    assert_eq!(duties.next(later + GAP * 2), None);
    let end = later + GAP * 3;
    duties.seen(Some(false), CLOSED_MAX, idle(), end);
    duties.seen(Some(false), CLOSED_MAX, idle(), end + GAP);
    assert_eq!(budgets(&settle(&mut duties, end + GAP)), [false]);
    assert!(!duties.budget_closed());
}

#[test]
fn what_one_looks_for_is_told_soon() {
    let start = Instant::now();
    let told_after = |change: fn(&mut serde_json::Value)| {
        let mut duties = Duties::default();
        let store = serde_json::json!({
            "life": "boot:1", "at": 1, "paths": 1, "nar_bytes": 1,
            "fs_bytes": 9, "fs_free_bytes": 5, "fs_inodes": 0, "fs_free_inodes": 0,
        });
        let mut with = serde_json::json!({ "life": "boot:1", "agents": [], "store": store });
        let status = |builder: &serde_json::Value| ClusterStatus {
            builder: serde_json::from_value(builder.clone()).unwrap(),
            ..idle()
        };
        duties.seen(Some(false), CLOSED_MAX, status(&with), start);
        settle(&mut duties, start);
        change(&mut with);
        duties.seen(Some(false), CLOSED_MAX, status(&with), start);
        duties.again(start).map(|at| at - start)
    };
    assert_eq!(told_after(|_| {}), None);
    assert_eq!(told_after(|status| status["store"]["fs_free_bytes"] = 4.into()), Some(RARELY));
    assert_eq!(told_after(|status| status["store"]["short"] = "4 of 9 bytes are free".into()), Some(SOON));
    let damaged = |status: &mut serde_json::Value| {
        let path = serde_json::json!({ "path": "/nix/store/a", "at": 1, "found": "verify", "what": "lost", "fate": "removed" });
        status["damage"] = serde_json::json!({ "life": "boot:1", "paths": [path] });
    };
    assert_eq!(told_after(damaged), Some(SOON));
    let killed = |status: &mut serde_json::Value| {
        status["memory"] = serde_json::json!({ "life": "boot:1", "kills": 1, "last_kill": 1 });
    };
    assert_eq!(told_after(killed), Some(SOON));
}

#[test]
fn no_build_keeps_a_node_for_ever() {
    let start = Instant::now();
    let mut duties = Duties::default();
    duties.seen(Some(true), CLOSED_MAX, idle(), start);
    assert_eq!(budgets(&settle(&mut duties, start)), [true]);
    assert_eq!(duties.again(start), Some(start + CLOSED_MAX));
    let over = start + CLOSED_MAX;
    duties.seen(Some(true), CLOSED_MAX, idle(), over);
    assert_eq!(budgets(&settle(&mut duties, over)), [false]);
    // The same build, and the next without a gap.
    duties.seen(Some(true), CLOSED_MAX, idle(), over + GAP);
    assert_eq!(settle(&mut duties, over + GAP), []);
    // Somebody allows more, and takes it back.
    duties.seen(Some(true), CLOSED_MAX * 2, idle(), over + GAP);
    assert_eq!(budgets(&settle(&mut duties, over + GAP)), [true]);
    duties.seen(Some(true), CLOSED_MAX, idle(), over + GAP);
    assert_eq!(budgets(&settle(&mut duties, over + GAP)), [false]);
    // After a pause they may be kept away again.
    duties.seen(Some(false), CLOSED_MAX, idle(), over + GAP * 2);
    duties.seen(Some(false), CLOSED_MAX, idle(), over + GAP * 3);
    duties.seen(Some(true), CLOSED_MAX, idle(), over + GAP * 4);
    assert_eq!(budgets(&settle(&mut duties, over + GAP * 4)), [true]);
}

#[test]
fn what_one_looks_for_is_written_soon_and_the_rest_rarely() {
    let start = Instant::now();
    let mut duties = Duties::default();
    duties.seen(Some(false), CLOSED_MAX, idle(), start);
    settle(&mut duties, start);
    let mut dated = idle();
    dated.at = 99;
    duties.seen(Some(false), CLOSED_MAX, dated, start + RARELY);
    assert_eq!((duties.next(start + RARELY), duties.again(start)), (None, None), "a date is no news");
    let mut detail = idle();
    detail.builder.pids_limit = Some(7);
    duties.seen(Some(false), CLOSED_MAX, detail.clone(), start);
    assert_eq!((duties.next(start), duties.again(start)), (None, Some(start + RARELY)));
    assert_eq!(settle(&mut duties, start + RARELY), [Duty::Status(Box::new(detail))]);
    let busy = status(ClusterState::Busy, None);
    duties.seen(Some(false), CLOSED_MAX, busy.clone(), start + RARELY);
    assert_eq!(duties.next(start + RARELY), None);
    assert_eq!(settle(&mut duties, start + RARELY + SOON), [Duty::Status(Box::new(busy))]);
}

#[test]
fn a_cluster_that_refuses_is_asked_ever_more_rarely_and_never_given_up() {
    let mut now = Instant::now();
    let mut duties = Duties::default();
    duties.seen(Some(true), CLOSED_MAX, idle(), now);
    duties.stopped(stop());
    let mut pauses = vec![];
    for _ in 0..9 {
        let duty = duties.next(now).expect("tried again");
        assert_eq!(duty, Duty::Stop(Box::new(stop())), "the reason of the stop comes first");
        duties.done(&duty, false, now);
        assert_eq!(duties.next(now), None);
        let again = duties.again(now).expect("and the agent is woken for it");
        pauses.push((again - now).as_secs());
        now = again;
    }
    assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    duties.goes_on();
    assert_ne!(duties.next(now), Some(Duty::Stop(Box::new(stop()))), "a stop that was taken back is none");
    duties.stopped(stop());
    let done = settle(&mut duties, now);
    assert_eq!(done.len(), 3, "{done:?}");
    assert_eq!(duties.unwritten_stop(), None);
}
