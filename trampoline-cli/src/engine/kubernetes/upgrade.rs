//! A request that becomes a connection.

use http::header::{CONNECTION, HeaderMap, HeaderName, HeaderValue};
use http::{Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use kube::client::{Body, UpgradeConnectionError};
use kube::core::Status;
use kube::{Client, Error, Result};

/// Bytes in both directions.
pub(super) type Socket = TokioIo<Upgraded>;

/// Asks for another protocol; gives what the server says of it, and the connection.
pub(super) async fn upgrade(
    client: &Client,
    request: Request<Vec<u8>>,
    headers: &[(HeaderName, &str)],
) -> Result<(HeaderMap, Socket)> {
    let (mut parts, body) = request.into_parts();
    for (name, value) in headers.iter().chain(&[(CONNECTION, "Upgrade")]) {
        let value = HeaderValue::from_str(value).map_err(|error| Error::HttpError(error.into()))?;
        parts.headers.insert(name, value);
    }
    let response = client.send(Request::from_parts(parts, Body::from(body))).await?;
    let response = accepted(response).await?;
    let headers = response.headers().clone();
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|error| Error::UpgradeConnection(UpgradeConnectionError::GetPendingUpgrade(error)))?;
    Ok((headers, TokioIo::new(upgraded)))
}

/// Whether a header has this value.
pub(super) fn says(headers: &HeaderMap, name: &HeaderName, value: &str) -> bool {
    headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
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
