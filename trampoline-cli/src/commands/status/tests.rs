use super::*;
use crate::engine::Volume;

#[test]
fn why_it_stopped_outlives_its_pod() {
    let stop = LastStop {
        at: 5,
        reason: "idle for 30m".to_owned(),
        last_activity: 1,
        fs_free_bytes: 0,
        fs_bytes: 0,
    };
    let observed = Observed { volumes: vec![Volume::Store], ..Observed::default() };
    let (state, reason) = judge(&observed, None, Some(&stop));
    let reason = reason.expect("it is known");
    assert_eq!(state, "stopped");
    assert!(reason.starts_with("idle for 30m; its pod is gone"), "{reason}");
    assert!(judge(&observed, None, None).1.is_some_and(|reason| reason.starts_with("its pod is gone")));
    assert_eq!(judge(&Observed::default(), None, None), ("absent", None));
}
