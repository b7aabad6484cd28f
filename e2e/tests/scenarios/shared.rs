//! One builder for all scenarios that leave it as they found it: each start costs seconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use e2e::builder::Builder;
use e2e::secrets::{self, Secret};
use e2e::setting::setting;

static SHARED: OnceLock<Builder> = OnceLock::new();

/// The builder's own, with who may read them.
pub(crate) const HOST_KEY: (&str, &str) = ("user", "/home/nix/.local/share/trampoline/ssh_host_ed25519_key");
pub(crate) const SIGNING_KEY: (&str, &str) = ("daemon", "/nix/.trampoline/signing-key");

/// The builder, set up by whoever needs it first.
pub(crate) fn builder() -> &'static Builder {
    // A collection of one scenario spares what another has just brought in.
    SHARED.get_or_init(|| Builder::set_up(&[("maintenance.grace-window", "\"1h\"")]))
}

/// Takes it away; a static is never dropped. Before, all that a whole run has left in its logs is searched for its secrets.
pub(crate) fn end(failed: bool) {
    let Some(builder) = SHARED.get() else { return };
    if failed {
        builder.keep_logs();
    }
    // It may be broken, and is taken away nevertheless.
    if catch_unwind(AssertUnwindSafe(|| search(builder))).is_err() {
        secrets::tell(format!("nobody knows: the secrets or the logs of {} cannot be read", builder.name()));
    }
    let _ = builder.clean();
    builder.person().leave();
}

/// Its secrets: its own, by the engine and not by the client, whose words are searched; and the client's.
pub(crate) fn secrets(builder: &Builder) -> Vec<Secret> {
    let own = [HOST_KEY, SIGNING_KEY].into_iter().flat_map(|(container, file)| {
        let held = setting().engine.inside(builder.name(), container, &format!("cat {file}")).ok();
        let secrets = Secret::in_file(file, &held.stdout);
        assert!(!secrets.is_empty(), "no secret in {file}");
        secrets
    });
    let clients = builder.person().secrets();
    // One line for Nix, and several for ssh.
    assert!(clients.len() > 3, "both of the client's keys: {}", clients.len());
    own.chain(clients).collect()
}

fn search(builder: &Builder) {
    builder.cli(["up"]).run().ok();
    let secrets = secrets(builder);
    let logs = secrets::search_logs(builder.name(), &secrets).ok();
    let both = format!("{}{}", logs.stdout, logs.stderr);
    assert!(both.contains("Server listening") && both.contains("ready nix="), "these are the logs: {logs}");
    let status = builder.cli(["status", "--json"]).run().ok();
    secrets::search(&status.what, &status.stdout, &secrets);
}
