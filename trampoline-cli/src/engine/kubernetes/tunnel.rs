//! How a forwarded port travels. In channels, the container runtime takes each message apart, byte by byte, in one thread; SPDY
//! within the WebSocket only passes through, once the API server has taken it out. Kubernetes knows that since 1.30; a server
//! that does not, takes the other of the two protocols that it is offered.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::header::{SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::{Body, UpgradeConnectionError};
use kube::core::Status;
use kube::{Client, Error, Result};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

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
) -> Result<(WebSocketStream<TokioIo<Upgraded>>, Carrier)> {
    let key = generate_key();
    let (mut parts, body) = request.into_parts();
    for (name, value) in [
        (CONNECTION, "Upgrade"),
        (UPGRADE, "websocket"),
        (SEC_WEBSOCKET_VERSION, "13"),
        (SEC_WEBSOCKET_PROTOCOL, OFFERED),
    ] {
        parts.headers.insert(name, HeaderValue::from_static(value));
    }
    let value = HeaderValue::from_str(&key).map_err(|error| Error::HttpError(error.into()))?;
    parts.headers.insert(SEC_WEBSOCKET_KEY, value);
    let response = client.send(Request::from_parts(parts, Body::from(body))).await?;
    let response = accepted(response).await?;
    let carrier = carrier(response.headers(), &key).map_err(Error::UpgradeConnection)?;
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|error| Error::UpgradeConnection(UpgradeConnectionError::GetPendingUpgrade(error)))?;
    Ok((WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, None).await, carrier))
}

/// A refusal, in the words of the server.
async fn accepted(response: Response<Body>) -> Result<Response<Body>> {
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS {
        return Ok(response);
    }
    if !code.is_client_error() && !code.is_server_error() {
        return Err(Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(code)));
    }
    let text = response.into_body().collect_bytes().await?;
    let status = serde_json::from_slice(&text).unwrap_or_else(|_| {
        // Whoever stands in between has words of their own.
        Status::failure(String::from_utf8_lossy(&text).trim(), "").with_code(code.as_u16())
    });
    Err(Error::Api(status.boxed()))
}

fn carrier(headers: &HeaderMap, key: &str) -> std::result::Result<Carrier, UpgradeConnectionError> {
    let is = |name: HeaderName, value: &str| {
        headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
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
