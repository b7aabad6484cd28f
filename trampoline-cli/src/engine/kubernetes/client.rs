//! The way to the API server: calls that outlast its short absences.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kube::api::DynamicObject;
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};

use super::connection;
use super::credentials::Plugin;
use super::failure;
use super::kubeconfig::{Resolved, Target};
use super::permissions::Kind;
use crate::error::Result;
use crate::ui::Ui;

/// A server that has answered us before is given this long to come back: an upgrade of a single control plane.
const PATIENCE: Duration = Duration::from_secs(60);
/// One that never has may be the wrong one, or behind a VPN that is down.
const FIRST_PATIENCE: Duration = Duration::from_secs(10);
/// No single call takes longer; watches have deadlines of their own.
const CALL: Duration = Duration::from_secs(20);
/// First pause between two attempts; doubled up to `PAUSE_MAX`.
const PAUSE: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// Absences shorter than this are not worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// A cluster and a namespace in it.
pub(crate) struct Cluster {
    /// Retries nothing by itself: see [`Self::call`].
    pub(crate) client: Client,
    /// The builder's.
    pub(crate) namespace: String,
    /// For messages: `context minikube`, `the cluster around this pod`.
    pub(crate) place: String,
    /// The server's address, for messages.
    pub(crate) address: String,
    /// What it is reached through, without a password, for messages.
    pub(super) proxy: Option<String>,
    /// What gives the credentials, for messages.
    pub(super) plugin: Option<Plugin>,
    /// How to speak.
    pub(crate) ui: Ui,
    answered: AtomicBool,
    /// It has been said that the server is away: once is enough for calls that wait side by side.
    away: AtomicBool,
    /// Something in between lets WebSockets through alone.
    no_spdy: AtomicBool,
}

impl Cluster {
    /// Reads the kubeconfig; says nothing to the cluster yet.
    pub(crate) async fn new(target: &Target, ui: Ui) -> Result<Self> {
        Self::of(target.resolve().await?, ui)
    }

    /// The one that was resolved.
    pub(super) fn of(resolved: Resolved, ui: Ui) -> Result<Self> {
        let Resolved { config, place, namespace } = resolved;
        let address = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let proxy = config.proxy_url.as_ref().map(|url| without_password(&url.to_string()));
        let plugin = Plugin::of(&config.auth_info);
        let client = connection::client(&config)
            .map_err(|error| failure::unusable(&place, plugin.as_ref(), &error))?;
        ui.detail(format!("{place}, namespace {namespace}, {address}"));
        Ok(Self {
            client,
            namespace,
            place,
            address,
            proxy,
            plugin,
            ui,
            answered: AtomicBool::new(false),
            away: AtomicBool::new(false),
            no_spdy: AtomicBool::new(false),
        })
    }

    /// Whether commands and ports may travel in SPDY, as far as is known.
    pub(super) fn passes_spdy(&self) -> bool {
        !self.no_spdy.load(Ordering::Relaxed)
    }

    /// They did not, though they did in a WebSocket.
    pub(super) fn stops_spdy(&self) {
        self.no_spdy.store(true, Ordering::Relaxed);
    }

    /// Objects of one kind in the builder's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Objects of a kind that is known only now.
    pub(crate) fn api_of(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// A call that may be repeated: repeated while the server is away, for a bounded time. `doing` is a verb phrase such as
    /// `cannot read pod x`.
    pub(crate) async fn call<T, F>(&self, doing: &str, call: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = kube::Result<T>>,
    {
        self.attempt(call).await.map_err(|error| failure::explain(self, doing, error))
    }

    /// The same; none where the object is not there.
    pub(crate) async fn call_opt<T, F>(&self, doing: &str, call: impl FnMut() -> F) -> Result<Option<T>>
    where
        F: Future<Output = kube::Result<T>>,
    {
        match self.attempt(call).await {
            Ok(value) => Ok(Some(value)),
            Err(Failed::Error(error)) if failure::is_absent(&error) => Ok(None),
            Err(error) => Err(failure::explain(self, doing, error)),
        }
    }

    /// The same, with the error as it came.
    pub(crate) async fn attempt<T, F>(&self, mut call: impl FnMut() -> F) -> std::result::Result<T, Failed>
    where
        F: Future<Output = kube::Result<T>>,
    {
        let since = Instant::now();
        let mut pause = PAUSE;
        loop {
            let (error, why) = match tokio::time::timeout(CALL, call()).await {
                Ok(Ok(value)) => {
                    self.answered.store(true, Ordering::Relaxed);
                    if self.away.swap(false, Ordering::Relaxed) {
                        self.ui.say("the API server answers again");
                    }
                    return Ok(value);
                }
                Ok(Err(error)) => match failure::away(&error) {
                    Some(why) => (Failed::Error(error), why),
                    None => {
                        if matches!(error, kube::Error::Api(_)) {
                            self.answered.store(true, Ordering::Relaxed);
                        }
                        return Err(Failed::Error(error));
                    }
                },
                Err(_) => (Failed::Silent, format!("no answer within {} s", CALL.as_secs())),
            };
            let patience = if self.answered.load(Ordering::Relaxed) { PATIENCE } else { FIRST_PATIENCE };
            if since.elapsed() + pause >= patience {
                return Err(error);
            }
            if since.elapsed() >= WORTH_A_LINE && !self.away.swap(true, Ordering::Relaxed) {
                let name = &self.address;
                let limit = patience.as_secs();
                self.ui.say(format!(
                    "the API server at {name} is away ({why}); trying again for up to {limit} s"
                ));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// `http://host:port`.
fn without_password(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let host = rest.split('/').next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

/// Why a call gave nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// As the library says it.
    Error(kube::Error),
    /// Nothing came, however often we asked.
    Silent,
}
