//! How a forwarded port travels in a WebSocket. In channels, the container runtime takes each message apart, byte by byte, in one thread; SPDY
//! within the WebSocket only passes through, once the API server has taken it out. Kubernetes knows that since 1.30; a server
//! that does not, takes the other of the two protocols that it is offered.

use http::Request;
use http::header::{HeaderMap, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL};
use http::header::{SEC_WEBSOCKET_VERSION, UPGRADE};
use kube::client::UpgradeConnectionError;
use kube::{Client, Error, Result};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::upgrade::{Socket, says, upgrade};

const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
const OFFERED: &str = "SPDY/3.1+portforward.k8s.io, v4.channel.k8s.io";

/// What the messages carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Carrier {
    Spdy,
    Channels,
}

/// Opens the WebSocket; `Client::connect` offers channels alone.
pub(super) async fn connect(
    client: &Client,
    request: Request<Vec<u8>>,
) -> Result<(WebSocketStream<Socket>, Carrier)> {
    let key = generate_key();
    let headers = [
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_PROTOCOL, OFFERED),
        (SEC_WEBSOCKET_KEY, &key),
    ];
    let (answer, socket) = upgrade(client, request, &headers).await?;
    let carrier = carrier(&answer, &key).map_err(Error::UpgradeConnection)?;
    Ok((WebSocketStream::from_raw_socket(socket, Role::Client, None).await, carrier))
}

fn carrier(headers: &HeaderMap, key: &str) -> std::result::Result<Carrier, UpgradeConnectionError> {
    let is = |name, value| says(headers, &name, value);
    if !is(UPGRADE, "websocket") {
        return Err(UpgradeConnectionError::MissingUpgradeWebSocketHeader);
    }
    if headers.get(SEC_WEBSOCKET_ACCEPT).is_none_or(|found| *found != derive_accept_key(key.as_bytes())) {
        return Err(UpgradeConnectionError::SecWebSocketAcceptKeyMismatch);
    }
    if is(SEC_WEBSOCKET_PROTOCOL, TUNNELLED) {
        Ok(Carrier::Spdy)
    } else if is(SEC_WEBSOCKET_PROTOCOL, CHANNELS) {
        Ok(Carrier::Channels)
    } else {
        Err(UpgradeConnectionError::SecWebSocketProtocolMismatch)
    }
}

#[cfg(test)]
mod tests {
    use http::header::HeaderValue;

    use super::*;

    #[test]
    fn the_server_chooses_between_two() {
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let answer = |accept: &'static str, protocol: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(UPGRADE, HeaderValue::from_static("WebSocket"));
            headers.insert(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept));
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
            carrier(&headers, key).ok()
        };
        // RFC 6455's own example.
        let accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
        assert_eq!(answer(accept, TUNNELLED), Some(Carrier::Spdy));
        assert_eq!(answer(accept, CHANNELS), Some(Carrier::Channels));
        assert_eq!(answer(accept, "v5.channel.k8s.io"), None);
        assert_eq!(answer("another", TUNNELLED), None);
        assert_eq!(OFFERED, format!("{TUNNELLED}, {CHANNELS}"));
    }
}
