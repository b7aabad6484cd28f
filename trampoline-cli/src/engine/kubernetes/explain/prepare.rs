//! The container that runs before all others. Where the daemon may not mount it fills the volume, and nobody else is there yet who
//! could be asked how far that is.

use contract::exit::Exit;
use contract::handshake::{AgentStatus, BuilderStatus, Phase};
use contract::places::{Container, USER_INIT};

use crate::engine::Trouble;
use crate::engine::kubernetes::client::Cluster;
use crate::engine::kubernetes::{exec, pod_of, target::Target};
use crate::error::CliError;

/// Asks it.
pub(super) async fn told(cluster: &Cluster, builder: &str) -> Trouble {
    // Who may not run commands there is told less; and it may have ended meanwhile.
    let asked = exec::exec(cluster, &Target::prepare(builder), &[USER_INIT, "status"], &[]).await;
    let status = asked.ok().and_then(|output| serde_json::from_slice::<BuilderStatus>(&output.stdout).ok());
    match status.as_ref().and_then(|status| status.agent(Container::Daemon)) {
        Some(agent) if agent.phase == Phase::Failed => Trouble::Fatal(failed(cluster, builder, agent)),
        Some(agent) if agent.phase == Phase::Starting => Trouble::Waiting(line(agent)),
        _ => Trouble::Waiting("its volumes are being prepared".to_owned()),
    }
}

fn line(agent: &AgentStatus) -> String {
    match agent.progress {
        Some((done, total)) if total > 0 => {
            format!("{} ({} %)", agent.message, done.saturating_mul(100) / total)
        }
        _ => agent.message.clone(),
    }
}

fn failed(cluster: &Cluster, builder: &str, agent: &AgentStatus) -> CliError {
    let (namespace, pod) = (&cluster.namespace, pod_of(builder));
    CliError::new(
        agent.exit.unwrap_or(Exit::ChildFailed),
        format!("the store of builder {builder} cannot be prepared: {}", agent.message),
    )
    .hint(format!("`kubectl -n {namespace} logs {pod} -c prepare` shows its whole log"))
}
