//! How a command begins, and how it travels: in SPDY, or, where something in between does not let that through, in channels of a
//! WebSocket. The fifth version of that protocol can tell the end of standard input and go on with the output; each kubelet since
//! 1.30 speaks it.

use bytes::Bytes;
use contract::exit::Exit;
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;
use kube::api::AttachParams;
use kube::core::Request;
use tokio::sync::mpsc;

use super::channel::{self, HalfClose};
use super::client::Cluster;
use super::exec::RESIZE;
use super::liveness::Lost;
use super::pod_of;
use super::streams::Streams;
use super::target::Target;
use super::upgrade::Socket;
use super::way::{self, Way};
use crate::error::{CliError, Result};

/// From here on an API server translates the fifth version.
const SINCE: &str = "1.30";

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
        let open = || {
            let web_socket = || async { client.connect(request()?).await.map(Box::new) };
            way::open(cluster, way::COMMAND, &request, web_socket)
        };
        let way = self.reach(cluster, &format!("cannot run a command in pod {pod}"), open).await?;
        let connection = match way {
            Way::Spdy(socket) => {
                let opened = Streams::open(socket, &params, self.alive(cluster)).await;
                let (streams, input) = opened.map_err(|lost| self.lost(&lost))?;
                return Ok((Incoming::Spdy(streams), input));
            }
            Way::WebSocket(connection) => connection,
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
