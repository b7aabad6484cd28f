//! One request to the API server: a connection of its own, encrypted, with the pod's own token. Nothing of it is kept: between
//! requests the monitor is as small as without a cluster, and token and certificates, which rotate, are read when they are used.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, InvalidDnsNameError, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

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
    /// No connection.
    #[error("connect to the API server at {0}")]
    Connect(String, #[source] io::Error),
    /// It broke.
    #[error("talk to the API server at {0}")]
    Talk(String, #[source] hyper::Error),
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

/// Asks, and returns whatever was answered.
///
/// # Errors
/// When there was no answer.
pub async fn send(server: &Server, ask: Ask<'_>) -> Result<(StatusCode, Vec<u8>), Error> {
    let limited = tokio::time::timeout(server.limit, exchange(server, ask)).await;
    limited.unwrap_or_else(|_| Err(Error::Slow(address(server))))
}

async fn exchange(server: &Server, ask: Ask<'_>) -> Result<(StatusCode, Vec<u8>), Error> {
    let address = address(server);
    let token = read(&server.account.join("token"))?;
    let connector = TlsConnector::from(Arc::new(tls(&server.account.join("ca.crt"))?));
    let name = ServerName::try_from(server.host.clone())
        .map_err(|source| Error::Host { host: server.host.clone(), source })?;
    let failed = |source| Error::Connect(address.clone(), source);
    let stream = TcpStream::connect((server.host.as_str(), server.port)).await.map_err(failed)?;
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let broke = |source| Error::Talk(address.clone(), source);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broke)?;
    let body = ask.body.map(ToString::to_string).unwrap_or_default();
    let request = Request::builder()
        .method(ask.method)
        .uri(ask.path)
        .header(HOST, &address)
        .header(AUTHORIZATION, format!("Bearer {}", String::from_utf8_lossy(&token).trim()))
        .header(ACCEPT, "application/json")
        .header(CONTENT_TYPE, "application/merge-patch+json")
        .header(USER_AGENT, concat!("shutdown-monitor/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))
        // Only a token with a line break in it.
        .map_err(|e| Error::Account { path: server.account.join("token"), source: io::Error::other(e) })?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(broke)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), BODY_MAX).collect().await;
        let body = body.map_err(|_| Error::Body(address.clone()))?;
        Ok((status, body.to_bytes().to_vec()))
    };
    // The connection has to be driven; it ends with the answer, whether or not the server would keep it.
    tokio::pin!(answer, connection);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        ended = &mut connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(broke(error)),
        },
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

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Account { path: path.to_owned(), source })
}

/// As in a URL.
fn address(server: &Server) -> String {
    let brackets = server.host.contains(':');
    let host = if brackets { format!("[{}]", server.host) } else { server.host.clone() };
    format!("{host}:{}", server.port)
}
