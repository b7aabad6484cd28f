//! The configuration as it lies in the cluster, edited there.

use contract::handshake::CONFIG_REFUSED;
use e2e::builder::Builder;
use e2e::cluster;
use serde_json::{Value, json};

use super::pod;
use crate::tuning::digests;

crate::scenarios! {
    Cluster: [
        edited_config_map_is_taken_and_a_bad_one_leaves_the_last_good_one_in_force,
    ],
}

/// Agents whose note of the configuration begins like this.
fn refusing(status: &Value) -> usize {
    let agents = status["pod"]["agents"].as_array().expect("agents").iter();
    let notes = agents.filter_map(|agent| agent["config_note"].as_str());
    notes.filter(|note| note.starts_with(CONFIG_REFUSED)).count()
}

fn edited_config_map_is_taken_and_a_bad_one_leaves_the_last_good_one_in_force() {
    let builder = Builder::set_up(&[("shutdown.idle-timeout", "\"1h\"")]);
    let map = format!("configmap/trampoline-{}", builder.name());
    let edit = |text: &str| {
        let patch = json!({ "data": { "trampoline.toml": text } }).to_string();
        cluster::kubectl(["patch", &map, "--type", "merge", "-p", &patch]).run().ok();
    };
    let good = cluster::field(&map, ".data.trampoline\\.toml");
    let before = builder.status();
    assert_eq!((digests(&before).len(), refusing(&before)), (4, 0), "{before}");

    let log = ["logs", "-f", &pod(&builder), "-c", "maintenance"];
    let mut log = cluster::kubectl(log).within(120).start();
    edit("[shutdown]\nidle-timeout = \"soon\"\n");
    // The kubelet brings it at its own pace.
    log.line("is refused, the last good one stays in force");
    drop(log);
    let status = builder.status_where(|status| refusing(status) == 4);
    assert_eq!(refusing(&status), 4, "{status}");
    assert_eq!(digests(&status), digests(&before), "{status}");
    let said = builder.cli(["status"]).run().ok();
    assert!(said.stdout.contains("refused: ") && said.stdout.contains("idle-timeout"), "{said}");
    assert_eq!(builder.shell("echo in").ok().text(), "in", "it serves");

    let another = good.replace("\"1h\"", "\"50m\"");
    assert_ne!(another, good);
    edit(&another);
    // Any change of the pod makes the kubelet look at once.
    cluster::kubectl(["annotate", "--overwrite", &pod(&builder), "example.org/look=now"]).run().ok();
    let taken = |status: &Value| {
        let (new, old) = (digests(status), digests(&before));
        refusing(status) == 0
            && new.len() == 4
            && new.iter().all(|digest| *digest == new[0] && new[0] != old[0])
    };
    let status = builder.status_where(taken);
    assert!(taken(&status), "{status}");
    assert_eq!(status["pod"]["life"], before["pod"]["life"], "the same pod");
}
