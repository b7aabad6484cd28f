//! How something travels: in SPDY itself, or, where something in between does not let that through, in a WebSocket.

use std::future::Future;

use http::header::{HeaderName, UPGRADE};
use http::{Method, Request};
use kube::client::UpgradeConnectionError;
use kube::{Client, Error, Result};

use super::cause::Cause;
use super::client::Cluster;
use super::upgrade::{Socket, says, upgrade};

/// What the streams of a connection are.
pub(super) const COMMAND: &str = "v4.channel.k8s.io";
/// See [`COMMAND`].
pub(super) const PORT: &str = "portforward.k8s.io";
const SPDY: &str = "SPDY/3.1";
const PROTOCOL: HeaderName = HeaderName::from_static("x-stream-protocol-version");

/// How something travels.
pub(super) enum Way<T> {
    Spdy(Socket),
    WebSocket(T),
}

/// Asks for it in SPDY, and, where something in between does not let that through, in a WebSocket from then on.
pub(super) async fn open<T, F: Future<Output = Result<T>>>(
    cluster: &Cluster,
    protocol: &str,
    request: impl Fn() -> Result<Request<Vec<u8>>>,
    web_socket: impl FnOnce() -> F,
) -> Result<Way<T>> {
    let spdy = cluster.passes_spdy();
    if spdy {
        match connect(&cluster.client, request()?, protocol).await {
            Ok(socket) => return Ok(Way::Spdy(socket)),
            Err(error) if !refused(&error) => return Err(error),
            Err(_) => {}
        }
    }
    let connection = web_socket().await?;
    if spdy {
        cluster.stops_spdy();
    }
    Ok(Way::WebSocket(connection))
}

async fn connect(client: &Client, request: Request<Vec<u8>>, protocol: &str) -> Result<Socket> {
    let (mut parts, body) = request.into_parts();
    parts.method = Method::POST;
    let request = Request::from_parts(parts, body);
    let (answer, socket) = upgrade(client, request, &[(UPGRADE, SPDY), (PROTOCOL, protocol)]).await?;
    if says(&answer, &UPGRADE, SPDY) && says(&answer, &PROTOCOL, protocol) {
        Ok(socket)
    } else {
        Err(Error::UpgradeConnection(UpgradeConnectionError::SecWebSocketProtocolMismatch))
    }
}

/// Whether it may be the protocol that somebody does not let through, who has not started anything then. Silence and broken connections are
/// none: the server may just be away, and a WebSocket's command may begin without anybody at its end.
fn refused(error: &Error) -> bool {
    match error {
        Error::Api(status) => status.code != 404 && matches!(Cause::of(&status.message), Cause::Unknown),
        error => matches!(error, Error::UpgradeConnection(_)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_refusal_of_the_protocol_is_tried_again_without_it() {
        let is_refused = |code, words: &str| {
            refused(&Error::Api(kube::core::Status::failure(words, "").with_code(code).boxed()))
        };
        assert!(is_refused(400, "Upgrade request required"));
        assert!(is_refused(
            403,
            "pods \"x\" is forbidden: User \"bob\" cannot create resource \"pods/exec\""
        ));
        assert!(!is_refused(500, "unable to upgrade connection: container not found (\"user\")"));
        assert!(!is_refused(404, "pods \"trampoline-x-0\" not found"));
    }
}
