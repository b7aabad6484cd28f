//! A container of a builder, and how it is reached.

use std::future::Future;
use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::places::Container;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;

use super::cause::Cause;
use super::client::{Cluster, Failed};
use super::liveness::{Alive, Lost};
use super::{failure, pod_of};
use crate::error::{CliError, Result};
use crate::render::PREPARE;

/// The API server is given this long to say that a pod is there.
const ALIVE: Duration = Duration::from_secs(5);
/// A node that is asked answers within that.
const ASKED: Duration = Duration::from_secs(5);
/// A kubelet that starts again listens within that.
const KUBELET: Duration = Duration::from_secs(10);
/// Between two tries.
const KUBELET_PAUSE: Duration = Duration::from_millis(300);
/// What an API server says of a kubelet that does not listen.
const REFUSED: &str = "connection refused";

/// Which container of which builder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) builder: String,
    pub(super) container: &'static str,
}

impl Target {
    pub(super) fn new(builder: &str, container: Container) -> Self {
        Self { builder: builder.to_owned(), container: container.name() }
    }

    /// The one that runs before all others.
    pub(super) fn prepare(builder: &str) -> Self {
        Self { builder: builder.to_owned(), container: PREPARE }
    }

    /// It does not run: whoever waits for a start or a stop tries again after it.
    pub(super) fn not_running(&self) -> CliError {
        CliError::new(
            Exit::Stopping,
            format!("the {} container of builder {} does not run", self.container, self.builder),
        )
        .hint("`trampoline-cli status` shows how the builder is")
    }

    pub(super) fn not_let_in(&self) -> CliError {
        CliError::new(Exit::Stopping, format!("builder {} did not let a command in", self.builder))
    }

    pub(super) fn node_away(&self, words: &str) -> CliError {
        CliError::engine(format!("the API server does not reach the node of builder {}: {words}", self.builder))
            .hint("the node is down, its kubelet is, or a firewall is between them: `kubectl get nodes` shows its state")
    }

    /// Whether the pod is still there, for a connection that has gone silent.
    pub(super) fn alive(&self, cluster: &Cluster) -> Alive {
        let pods = cluster.api::<Pod>();
        let (name, address) = (pod_of(&self.builder), cluster.address.clone());
        Box::new(move || {
            let (pods, name, address) = (pods.clone(), name.clone(), address.clone());
            Box::pin(async move {
                // The first may be put on a connection that is as dead as ours.
                for _ in 0..2 {
                    match tokio::time::timeout(ALIVE, pods.get_metadata_opt(&name)).await {
                        Ok(Ok(Some(_))) => return Ok(()),
                        Ok(Ok(None)) => return Err(Lost(format!("pod {name} was deleted"))),
                        // Whoever may not read pods has to trust the connection.
                        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 401 | 403) => {
                            return Ok(());
                        }
                        Ok(Err(_)) | Err(_) => {}
                    }
                }
                Err(Lost(format!("the API server at {address} does not answer any more")))
            })
        })
    }

    /// Whether its node answers, whatever the cluster says of it: it is asked for a line of the log. Where the API server has been away,
    /// kubelets and controllers look at it again after up to a minute, and until then all nodes are silent to it.
    pub(super) async fn answers(&self, cluster: &Cluster) -> bool {
        let (pods, pod) = (cluster.api::<Pod>(), pod_of(&self.builder));
        let container = Some(self.container.to_owned());
        let line = LogParams { container, tail_lines: Some(1), limit_bytes: Some(1), ..LogParams::default() };
        let asked = self.reach(cluster, "cannot ask the node", || pods.logs(&pod, &line));
        match tokio::time::timeout(ASKED, asked).await {
            Ok(Ok(_)) => true,
            // There is no log, or no pod any more: that is an answer.
            Ok(Err(error)) => error.exit == Exit::Stopping,
            Err(_) => false,
        }
    }

    /// Opens a connection to it. A kubelet that starts again is waited for: nothing has been asked of the container by then, and no
    /// object of the cluster tells when it listens.
    pub(super) async fn reach<T, F>(
        &self,
        cluster: &Cluster,
        doing: &str,
        mut open: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let deadline = Instant::now() + KUBELET;
        loop {
            let status = match cluster.attempt(&mut open).await {
                Ok(connection) => return Ok(connection),
                Err(Failed::Error(kube::Error::Api(status))) if status.code != 403 => status,
                Err(error) => return Err(failure::explain(cluster, doing, error)),
            };
            match Cause::of(&status.message) {
                Cause::NodeAway if status.message.contains(REFUSED) && Instant::now() < deadline => {
                    tokio::time::sleep(KUBELET_PAUSE).await;
                }
                Cause::NodeAway => return Err(self.node_away(&status.message)),
                Cause::NotRunning => return Err(self.not_running()),
                _ if matches!(status.code, 400 | 404) => return Err(self.not_running()),
                _ => return Err(failure::explain(cluster, doing, Failed::Error(kube::Error::Api(status)))),
            }
        }
    }

    /// A connection that was lost under a command.
    pub(super) fn lost(&self, lost: &Lost) -> CliError {
        CliError::new(Exit::Io, format!("the connection to builder {} was lost: {}", self.builder, lost.0))
            .hint("what ran there may still run; `trampoline-cli status` shows how the builder is")
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::engine::kubernetes::fake;

    /// How often it was tried, and what came of it.
    async fn tried(answers: &[(u16, &str)]) -> (usize, CliError) {
        let mut tries = 0;
        let target = Target::new("c", Container::User);
        let open = || {
            let (code, message) = answers[tries];
            tries += 1;
            async move { Err::<(), _>(kube::Error::Api(Status::failure(message, "").with_code(code).boxed())) }
        };
        let cluster = fake::cluster_at("http://127.0.0.1:1");
        let error = target.reach(&cluster, "cannot try", open).await.expect_err("nobody answers");
        (tries, error)
    }

    #[tokio::test(start_paused = true)]
    async fn a_kubelet_that_does_not_listen_is_asked_again_and_nobody_else() {
        let refused = (500, "error dialing backend: dial tcp 10.0.0.1:10250: connect: connection refused");
        let (tries, error) = tried(&[refused, refused, (404, "pods \"trampoline-c-0\" not found")]).await;
        assert_eq!((tries, error.exit), (3, Exit::Stopping), "{error}");
        let log = "Get \"https://10.0.0.1:10250/containerLogs/n/trampoline-c-0/user?tailLines=1\": dial tcp 10.0.0.1:10250: connect: \
                   connection refused";
        assert_eq!(tried(&[(500, log), (400, "container \"user\" is waiting to start")]).await.0, 2);
        let away = (500, "error dialing backend: dial tcp 10.0.0.1:10250: connect: no route to host");
        let (tries, error) = tried(&[away]).await;
        assert_eq!((tries, error.exit), (1, Exit::Engine));
        assert!(error.message.contains("does not reach the node of builder c"), "{error}");
        let (tries, error) = tried(&[(500, "container not found (\"user\")")]).await;
        assert_eq!((tries, error.exit), (1, Exit::Stopping), "{error}");
        let denied = (403, "pods \"x\" is forbidden: User \"bob\" cannot create resource \"pods/exec\"");
        assert_eq!(tried(&[denied]).await.1.exit, Exit::NoPermission);
    }
}
