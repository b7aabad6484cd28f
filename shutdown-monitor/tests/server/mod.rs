//! An API server that answers what it is told to, and remembers what it was asked.

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::handshake::{BuilderStatus, Life, StopEnd, StopPhase, StopRequest};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use shutdown_monitor::cluster::http::{self, Server};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) token: String,
    pub(crate) kind: String,
    pub(crate) body: String,
}

/// What the next request gets.
enum Fate {
    Answer(StatusCode, Value),
    HangUp,
    Silence,
}

#[derive(Default)]
struct State {
    calls: Vec<Call>,
    fates: VecDeque<Fate>,
}

/// A server of its own thread; it ends with this.
pub(crate) struct Cluster {
    account: tempfile::TempDir,
    port: u16,
    state: Arc<Mutex<State>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// To its end, in a runtime as the agent has one.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let account = tempfile::tempdir().expect("a scratch folder");
        let acceptor = TlsAcceptor::from(Arc::new(certificates(account.path())));
        std::fs::write(account.path().join("token"), "first\n").expect("scratch");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        let port = listener.local_addr().expect("bound").port();
        let state = Arc::<Mutex<State>>::default();
        let (end, ended) = oneshot::channel();
        let shared = Arc::clone(&state);
        let thread = std::thread::spawn(move || {
            run(async move {
                let listener = TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    () = serve(listener, acceptor, shared) => {}
                    _ = ended => {}
                }
            });
        });
        Self { account, port, state, end: Some(end), thread: Some(thread) }
    }

    /// Where it is.
    pub(crate) fn server(&self) -> Server {
        let (host, account) = ("127.0.0.1".into(), self.account.path().into());
        Server { host, port: self.port, account, limit: http::LIMIT }
    }

    pub(crate) fn account(&self) -> &Path {
        self.account.path()
    }

    /// For one request.
    pub(crate) fn answer(&self, status: StatusCode, body: Value) {
        lock(&self.state).fates.push_back(Fate::Answer(status, body));
    }

    /// Instead of the next answer.
    pub(crate) fn hang_up(&self) {
        lock(&self.state).fates.push_back(Fate::HangUp);
    }

    /// Instead of the next answer, until the client gives up.
    pub(crate) fn be_silent(&self) {
        lock(&self.state).fates.push_back(Fate::Silence);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        lock(&self.state).calls.clone()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server has not failed");
        }
    }
}

/// `ca.crt` of an authority, and a certificate of its for the address.
fn certificates(account: &Path) -> ServerConfig {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).expect("signed");
    std::fs::write(account.join("ca.crt"), authority.pem()).expect("scratch");
    let issuer = Issuer::new(params, key);
    let own = KeyPair::generate().expect("a key");
    let named = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
    let certificate = named.signed_by(&own, &issuer).expect("signed");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.serialize_der()));
    ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .expect("a certificate and its key")
}

/// One connection after the other: the monitor has one at a time.
async fn serve(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    while let Ok((stream, _)) = listener.accept().await {
        // Who does not trust our certificate hangs up here.
        let Ok(stream) = acceptor.accept(stream).await else { continue };
        let answer = service_fn(|request| answer(request, &state));
        let http = hyper::server::conn::http1::Builder::new();
        // A client that hangs up is no failure of ours.
        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &Mutex<State>,
) -> Result<Response<Full<Bytes>>, std::fmt::Error> {
    let header = |name: HeaderName| {
        let value = request.headers().get(name).and_then(|v| v.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let mut call = Call {
        method: request.method().to_string(),
        path: request.uri().to_string(),
        token: header(AUTHORIZATION),
        kind: header(CONTENT_TYPE),
        body: String::new(),
    };
    let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
    call.body = String::from_utf8_lossy(&body).into_owned();
    let fate = {
        let mut state = lock(state);
        state.calls.push(call);
        state.fates.pop_front()
    };
    match fate {
        Some(Fate::Answer(status, body)) => {
            let mut response = Response::new(Full::new(Bytes::from(body.to_string())));
            *response.status_mut() = status;
            if status.is_redirection() {
                response.headers_mut().insert(LOCATION, HeaderValue::from_static("/elsewhere"));
            }
            Ok(response)
        }
        Some(Fate::Silence) => std::future::pending().await,
        // An error of the service ends the connection.
        Some(Fate::HangUp) | None => Err(std::fmt::Error),
    }
}

/// Of which nothing is known.
pub(crate) fn builder() -> BuilderStatus {
    serde_json::from_value(json!({ "life": "boot:1", "agents": [] })).expect("the rest may be missing")
}

/// One that the monitor has stopped.
pub(crate) fn stopped_builder() -> BuilderStatus {
    let stop = StopRequest {
        life: Life("boot:1".into()),
        generation: 1,
        phase: StopPhase::Final,
        end: StopEnd::AwaitSignal,
        reason: "idle for 30m".into(),
        last_activity: 0,
    };
    BuilderStatus { stop: Some(stop), ..builder() }
}
