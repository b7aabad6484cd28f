//! One builder for all scenarios that leave it as they found it: each start costs seconds.

use std::sync::OnceLock;

use e2e::builder::Builder;
use e2e::setting::setting;

static SHARED: OnceLock<Builder> = OnceLock::new();

/// The builder, set up by whoever needs it first.
pub(crate) fn builder() -> &'static Builder {
    // A collection of one scenario spares what another has just brought in.
    SHARED.get_or_init(|| Builder::set_up(&[("maintenance.grace-window", "\"1h\"")]))
}

/// Takes it away; a static is never dropped. Gives what its logs have told that must stay secret.
pub(crate) fn end(failed: bool) -> Vec<String> {
    let Some(builder) = SHARED.get() else { return Vec::new() };
    if failed {
        builder.keep_logs();
    }
    let told = if failed { Vec::new() } else { secrets_told(builder) };
    let _ = builder.clean();
    builder.person().leave();
    told
}

/// How private keys of SSH and tokens of a cluster begin, whoever's they are.
const MARKS: [&str; 2] = ["PRIVATE KEY-----", "eyJhbGciOi"];

/// Secrets that stand in what a whole run has left in the logs of its four containers, and in what `status` shows.
fn secrets_told(builder: &Builder) -> Vec<String> {
    let _ = builder.cli(["up"]).run();
    let files = "cat /home/nix/.local/share/trampoline/ssh_host_ed25519_key \
                 /trampoline/volume/nix/.trampoline/signing-key /nix/.trampoline/signing-key 2>/dev/null; true";
    let held = setting().engine.as_root(builder.name(), files).stdout;
    // Of a signing key only what stands behind its name is one; the rest are lines of base64.
    let secrets: Vec<&str> = held
        .lines()
        .map(|line| line.split_once(':').map_or(line, |(_, secret)| secret))
        .filter(|line| line.len() > 30 && !line.starts_with("-----"))
        .chain(MARKS)
        .collect();
    let mut said = builder.cli(["status", "--json"]).run().stdout;
    for container in ["daemon", "user", "maintenance", "shutdown-monitor"] {
        let logs = builder.cli(["logs", container]).run();
        said += &logs.stdout;
        said += &logs.stderr;
    }
    assert!(secrets.len() > MARKS.len() + 1 && said.lines().count() > 8, "secrets and logs could be read");
    secrets.into_iter().filter(|secret| said.contains(*secret)).map(str::to_owned).collect()
}
