//! The way to the API server: which one, and calls that outlast its short absences.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::exit::Exit;
use kube::api::DynamicObject;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Config, Resource};

use super::failure;
use super::permissions::Kind;
use super::proxy_env;
use crate::error::{CliError, Result};
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

/// Which cluster and namespace, as the command line and trampoline.toml say; the kubeconfig says the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Of the kubeconfig; not set: its current one.
    pub(crate) context: Option<String>,
    /// Not set: the context's.
    pub(crate) namespace: Option<String>,
}

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
    /// How to speak.
    pub(crate) ui: Ui,
    answered: AtomicBool,
    /// It has been said that the server is away: once is enough for calls that wait side by side.
    away: AtomicBool,
}

/// What the kubeconfig makes of a [`Target`], without a word to the cluster.
pub(crate) struct Resolved {
    config: Config,
    place: String,
    namespace: String,
}

impl Target {
    /// Context and namespace by name, which tell builders of one name apart. Without a readable kubeconfig, what was asked for.
    pub(crate) fn place(&self) -> (Option<String>, String) {
        let kubeconfig = read_kubeconfig().unwrap_or_default();
        let context = self.context.clone().or(kubeconfig.current_context.clone());
        let named = kubeconfig.contexts.into_iter().find(|named| Some(&named.name) == context.as_ref());
        let namespace = self
            .namespace
            .clone()
            .or_else(|| named.and_then(|named| named.context).and_then(|context| context.namespace))
            .unwrap_or_else(|| "default".to_owned());
        (context, namespace)
    }

    /// minikube leaves a note of itself in the kubeconfig, whatever its profile is called.
    pub(crate) fn is_minikube(&self) -> bool {
        let kubeconfig = read_kubeconfig().unwrap_or_default();
        let context = self.context.as_ref().or(kubeconfig.current_context.as_ref());
        let named = kubeconfig.contexts.iter().find(|named| Some(&named.name) == context);
        let extensions = named.and_then(|named| named.context.as_ref()?.extensions.as_ref());
        extensions.is_some_and(|list| {
            list.iter().any(|extension| extension.extension["provider"] == "minikube.sigs.k8s.io")
        })
    }

    /// As kubectl does: the kubeconfig, or what a pod is given by its cluster.
    pub(crate) async fn resolve(&self) -> Result<Resolved> {
        let kubeconfig = match read_kubeconfig() {
            Ok(kubeconfig) => Some(kubeconfig),
            Err(error) if self.context.is_some() => return Err(no_config(&error, None, self)),
            Err(error) => match Config::incluster() {
                Ok(config) => return Ok(self.finish(config, "the cluster around this pod".to_owned())),
                Err(_) => return Err(no_config(&error, None, self)),
            },
        };
        let kubeconfig = kubeconfig.unwrap_or_default();
        if kubeconfig.current_context.is_none()
            && self.context.is_none()
            && let Ok(config) = Config::incluster()
        {
            return Ok(self.finish(config, "the cluster around this pod".to_owned()));
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let context = self.context.clone().or(kubeconfig.current_context.clone()).unwrap_or_default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options)
            .await
            .map_err(|error| no_config(&error, Some(&kubeconfig), self))?;
        if proxy_env::bypasses(&kubeconfig, &context, config.cluster_url.host()) {
            config.proxy_url = None;
        }
        Ok(self.finish(config, format!("context {context}")))
    }

    fn finish(&self, mut config: Config, place: String) -> Resolved {
        // Its own retries go on for minutes without a word.
        config.default_retry = false;
        config.connect_timeout = Some(Duration::from_secs(5));
        let agent = concat!("trampoline-cli/", env!("CARGO_PKG_VERSION"));
        if let (Ok(name), Ok(value)) = ("user-agent".parse(), agent.parse()) {
            config.headers.push((name, value));
        }
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        Resolved { config, place, namespace }
    }
}

/// Files of a list that are not there are passed over, as kubectl does.
fn read_kubeconfig() -> std::result::Result<Kubeconfig, KubeconfigError> {
    let listed: Vec<PathBuf> = std::env::var_os("KUBECONFIG")
        .map(|list| std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect())
        .unwrap_or_default();
    let mut there = listed.iter().filter(|path| path.exists()).peekable();
    if listed.is_empty() || there.peek().is_none() {
        return Kubeconfig::read();
    }
    there.try_fold(Kubeconfig::default(), |merged, path| merged.merge(Kubeconfig::read_from(path)?))
}

fn no_config(error: &KubeconfigError, kubeconfig: Option<&Kubeconfig>, target: &Target) -> CliError {
    let names = kubeconfig
        .map(|config| config.contexts.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", "))
        .filter(|names| !names.is_empty());
    let has = names.map_or_else(String::new, |names| format!("; it has: {names}"));
    match error {
        KubeconfigError::FindPath | KubeconfigError::ReadConfig(..) => {
            let missing = match error {
                KubeconfigError::ReadConfig(source, path)
                    if source.kind() != std::io::ErrorKind::NotFound =>
                {
                    return CliError::new(Exit::Config, format!("cannot read {}: {source}", path.display()))
                        .hint("it says how to reach the cluster: make it readable for you, or name another with KUBECONFIG");
                }
                KubeconfigError::ReadConfig(_, path) => format!("there is no {}", path.display()),
                _ => "HOME is not set".to_owned(),
            };
            CliError::new(Exit::Config, format!("no kubeconfig says how to reach a cluster: {missing}")).hint(
                "point KUBECONFIG at one, or make a cluster (`minikube start`, `kind create cluster`); \
                 `--engine podman` makes a builder on this machine",
            )
        }
        KubeconfigError::CurrentContextNotSet => {
            CliError::new(Exit::Config, format!("the kubeconfig has no current context{has}"))
                .hint("choose one with --context, or with `kubectl config use-context`")
        }
        KubeconfigError::LoadContext(name) => {
            CliError::new(Exit::Config, format!("there is no context {name} in the kubeconfig{has}")).hint(
                if target.context.is_some() {
                    "choose one of these with --context, or under [kubernetes]"
                } else {
                    "its `current-context` names one that it does not have: `kubectl config use-context`"
                },
            )
        }
        // The first line: those below show the file around the mistake, and it holds secrets.
        error => CliError::new(
            Exit::Config,
            format!(
                "the kubeconfig cannot be used: {}",
                error.to_string().lines().next().unwrap_or_default()
            ),
        )
        .hint("`kubectl config view` shows what it says"),
    }
}

impl Cluster {
    /// Reads the kubeconfig; says nothing to the cluster yet.
    pub(crate) async fn new(target: &Target, ui: Ui) -> Result<Self> {
        let Resolved { config, place, namespace } = target.resolve().await?;
        let address = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| failure::unusable(&place, &error))?;
        ui.detail(format!("{place}, namespace {namespace}, {address}"));
        Ok(Self {
            client,
            namespace,
            place,
            address,
            ui,
            answered: AtomicBool::new(false),
            away: AtomicBool::new(false),
        })
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

/// Why a call gave nothing.
#[derive(Debug)]
pub(crate) enum Failed {
    /// As the library says it.
    Error(kube::Error),
    /// Nothing came, however often we asked.
    Silent,
}
