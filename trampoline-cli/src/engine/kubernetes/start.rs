//! How a command begins, and how it travels: in SPDY, or, where something in between does not let that through, in channels of a
//! WebSocket. The fifth version of that protocol can tell the end of standard input and go on with the output; each kubelet since
//! 1.30 speaks it.

use std::time::Duration;

use bytes::Bytes;
use contract::exit::Exit;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::AttachParams;
use kube::core::Request;
use tokio::sync::mpsc;

use super::cause::Cause;
use super::channel::{self, HalfClose};
use super::client::Cluster;
use super::exec::RESIZE;
use super::liveness::Lost;
use super::streams::{self, Streams};
use super::target::Target;
use super::upgrade::Socket;
use super::{failure, pod_of};
use crate::error::{CliError, Result};

/// From here on an API server translates the fifth version.
const SINCE: &str = "1.30";
/// Something in between may keep a request that it does not understand to itself: so long, and there is time for the other one.
#[cfg(not(test))]
const ANSWERED: Duration = Duration::from_secs(8);
#[cfg(test)]
const ANSWERED: Duration = Duration::from_millis(500);

/// What comes of a command, however it travels.
pub(super) enum Incoming {
    Spdy(Streams),
    Channels(channel::Incoming<Socket>),
}

impl Incoming {
    /// The next bytes and their channel; none when the connection has ended in good order. May be dropped at any time.
    pub(super) async fn next(&mut self) -> std::result::Result<Option<(u8, Bytes)>, Lost> {
        match self {
            Self::Spdy(streams) => streams.next().await,
            Self::Channels(incoming) => incoming.next().await,
        }
    }

    /// Tells the size of its terminal.
    pub(super) async fn resize(&mut self, size: &[u8]) {
        match self {
            Self::Spdy(streams) => streams.resize(size).await,
            Self::Channels(incoming) => incoming.send(channel::frame(RESIZE, size)).await,
        }
    }
}

/// Whether it may be the protocol that somebody does not let through: with a refusal, or by ending the connection. Nothing was started
/// then, since a command begins when its streams are there.
fn refuses_spdy(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => {
            status.code != 404 && matches!(Cause::of(&status.message), Cause::Unknown)
        }
        error => matches!(error, kube::Error::UpgradeConnection(_)) || failure::away(error).is_some(),
    }
}

enum Connection {
    Spdy(Socket),
    Channels(Box<kube::client::Connection>),
}

impl Target {
    /// A command whose streams are channels.
    pub(super) async fn start(
        &self,
        cluster: &Cluster,
        argv: &[&str],
        params: AttachParams,
    ) -> Result<(Incoming, mpsc::Sender<Bytes>)> {
        let pod = pod_of(&self.builder);
        let url = Pod::url_path(&(), Some(&cluster.namespace));
        let params = AttachParams { container: Some(self.container.to_owned()), ..params };
        let client = &cluster.client;
        let request = || {
            let argv = argv.iter().copied();
            Request::new(url.as_str()).exec(&pod, argv, &params).map_err(kube::Error::BuildRequest)
        };
        let open = || async {
            let spdy = cluster.passes_spdy();
            if spdy {
                match tokio::time::timeout(ANSWERED, streams::connect(client, request()?)).await {
                    Ok(Ok(socket)) => return Ok(Connection::Spdy(socket)),
                    Ok(Err(error)) if !refuses_spdy(&error) => return Err(error),
                    Ok(Err(_)) | Err(_) => {}
                }
            }
            let connection = client.connect(request()?).await?;
            if spdy {
                cluster.stops_spdy();
            }
            Ok(Connection::Channels(Box::new(connection)))
        };
        let connection = self.reach(cluster, &format!("cannot run a command in pod {pod}"), open).await?;
        let connection = match connection {
            Connection::Spdy(socket) => {
                let opened = Streams::open(socket, &params, self.alive(cluster)).await;
                let (streams, input) = opened.map_err(|lost| self.lost(&lost))?;
                return Ok((Incoming::Spdy(streams), input));
            }
            Connection::Channels(connection) => connection,
        };
        if params.stdin && !connection.supports_stream_close() {
            return Err(CliError::new(
                Exit::Unsupported,
                format!("the API server at {} is older than {SINCE}", cluster.address),
            )
            .hint("it cannot tell a command that its input has ended: upgrade the cluster"));
        }
        let (incoming, input) =
            channel::split(connection.into_stream(), HalfClose::Told, self.alive(cluster));
        Ok((Incoming::Channels(incoming), input))
    }
}

#[cfg(test)]
mod tests {
    use contract::places::Container;

    use super::*;
    use crate::engine::kubernetes::fake::{self, Refusal};

    /// What stands in between may not say that it does not understand.
    #[tokio::test]
    async fn a_request_that_is_kept_or_cut_off_is_made_again_as_a_web_socket() {
        for refusal in [Refusal::HungUp, Refusal::Silent] {
            let (cluster, _) = fake::behind(refusal, |_| None).await;
            let target = Target::new("a", Container::User);
            let started = target.start(&cluster, &["true"], AttachParams::default().stdin(false)).await;
            assert!(matches!(started, Ok((Incoming::Channels(_), _))));
            assert!(!cluster.passes_spdy(), "it is not asked for again");
        }
    }

    #[test]
    fn only_a_refusal_of_the_protocol_is_tried_again_without_it() {
        let refused = |code, words: &str| {
            refuses_spdy(&kube::Error::Api(kube::core::Status::failure(words, "").with_code(code).boxed()))
        };
        assert!(refused(400, "Upgrade request required"));
        assert!(refused(403, "pods \"x\" is forbidden: User \"bob\" cannot create resource \"pods/exec\""));
        assert!(!refused(500, "unable to upgrade connection: container not found (\"user\")"));
        assert!(!refused(404, "pods \"trampoline-x-0\" not found"));
    }
}
