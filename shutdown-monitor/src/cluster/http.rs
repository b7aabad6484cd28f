//! One request to the API server: a connection of its own, encrypted, with the pod's own token. Nothing of it is kept: between
//! requests the monitor is as small as without a cluster, and token and certificates, which rotate, are read when they are used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response, StatusCode, retry};
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// An API server that is well needs milliseconds.
pub const LIMIT: Duration = Duration::from_secs(10);
/// No object of ours comes near it.
const BODY_MAX: usize = 4 << 20;

/// Where to ask and as whom.
#[derive(Debug, Clone)]
pub struct Server {
    /// Name or address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Folder with `token` and `ca.crt`.
    pub account: PathBuf,
    /// From the first packet to the last; [`LIMIT`].
    pub limit: Duration,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the service account.
    #[error("read {}: is the token mounted?", path.display())]
    Account {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The certificates are none.
    #[error("{} holds no certificate that can be used", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
    },
    /// No name that a certificate could hold.
    #[error("{host:?} is no address of an API server")]
    Host {
        /// As in the environment.
        host: String,
        /// Why.
        source: InvalidDnsNameError,
    },
    /// Encryption cannot be set up.
    #[error("set up encryption")]
    Tls(#[from] rustls::Error),
    /// There is no client.
    #[error("set up a client of the API server")]
    Client(#[source] Cause),
    /// No connection.
    #[error("connect to the API server at {0}")]
    Connect(String, #[source] Cause),
    /// It broke.
    #[error("talk to the API server at {0}")]
    Talk(String, #[source] Cause),
    /// The answer is longer than anything it should be.
    #[error("the answer of the API server at {0} broke off or is too long")]
    Body(String),
    /// See [`LIMIT`].
    #[error("the API server at {0} has not answered in time")]
    Slow(String),
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// GET or PATCH.
    pub method: &'a Method,
    /// With its query.
    pub path: &'a str,
    /// A JSON merge patch.
    pub body: Option<&'a serde_json::Value>,
}

/// What went wrong at the bottom. The layers above it say that a request failed, which [`Error`] says, and repeat the URL.
#[derive(Debug)]
pub struct Cause(reqwest::Error);

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cause: &dyn std::error::Error = &self.0;
        while let Some(source) = cause.source() {
            cause = source;
        }
        fmt::Display::fmt(cause, f)
    }
}

impl std::error::Error for Cause {}

/// Asks, and returns whatever was answered.
///
/// # Errors
/// When there was no answer.
pub async fn send(server: &Server, ask: Ask<'_>) -> Result<(StatusCode, Vec<u8>), Error> {
    let address = address(server);
    let token = token(&server.account.join("token"))?;
    ServerName::try_from(server.host.as_str())
        .map_err(|source| Error::Host { host: server.host.clone(), source })?;
    let request = client(server)?
        .request(ask.method.clone(), format!("https://{address}{}", ask.path))
        .header(AUTHORIZATION, token)
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/merge-patch+json")
        .body(ask.body.map(ToString::to_string).unwrap_or_default());
    let answer = request.send().await.map_err(|error| match error {
        slow if slow.is_timeout() => Error::Slow(address.clone()),
        away if away.is_connect() => Error::Connect(address.clone(), Cause(away)),
        broken => Error::Talk(address.clone(), Cause(broken)),
    })?;
    Ok((answer.status(), body(answer, address).await?))
}

/// For one request: its connection ends with the answer, whether or not the server would keep it. Whom it asks and whom it trusts is
/// said by the pod alone, not by variables of its environment, and the token goes nowhere else.
fn client(server: &Server) -> Result<Client, Error> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls(&server.account.join("ca.crt"))?)
        .https_only(true)
        .no_proxy()
        .redirect(Policy::none())
        .retry(retry::never())
        .pool_max_idle_per_host(0)
        .timeout(server.limit)
        .user_agent(concat!("shutdown-monitor/", env!("CARGO_PKG_VERSION")));
    client.build().map_err(|error| Error::Client(Cause(error)))
}

async fn body(mut answer: Response, address: String) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_MAX => body.extend_from_slice(&chunk),
            Err(error) if error.is_timeout() => return Err(Error::Slow(address)),
            Ok(Some(_)) | Err(_) => return Err(Error::Body(address)),
        }
    }
}

fn tls(path: &Path) -> Result<ClientConfig, Error> {
    let pem = read(path)?;
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).flatten());
    if added == 0 {
        return Err(Error::Certificates { path: path.to_owned() });
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    Ok(config.with_safe_default_protocol_versions()?.with_root_certificates(roots).with_no_client_auth())
}

fn token(path: &Path) -> Result<HeaderValue, Error> {
    let token = read(path)?;
    let token = format!("Bearer {}", String::from_utf8_lossy(&token).trim());
    // Only a token with a line break in it.
    let mut token = HeaderValue::try_from(token)
        .map_err(|e| Error::Account { path: path.to_owned(), source: io::Error::other(e) })?;
    token.set_sensitive(true);
    Ok(token)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Account { path: path.to_owned(), source })
}

/// As in a URL.
fn address(server: &Server) -> String {
    let brackets = server.host.contains(':');
    let host = if brackets { format!("[{}]", server.host) } else { server.host.clone() };
    format!("{host}:{}", server.port)
}
