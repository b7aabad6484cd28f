//! Which cluster, by the kubeconfig: as kubectl reads it.

use std::path::PathBuf;
use std::time::Duration;

use contract::exit::Exit;
use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError, NamedContext};

use super::proxy_env;
use crate::error::{CliError, Result};

/// Which cluster and namespace, as the command line and trampoline.toml say; the kubeconfig says the rest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Of the kubeconfig; not set: its current one.
    pub(crate) context: Option<String>,
    /// Not set: the context's.
    pub(crate) namespace: Option<String>,
}

/// What the kubeconfig makes of a [`Target`], without a word to the cluster.
pub(super) struct Resolved {
    pub(super) config: Config,
    /// For messages: `context minikube`, `the cluster around this pod`.
    pub(super) place: String,
    pub(super) namespace: String,
}

impl Target {
    /// Context and namespace by name, which tell builders of one name apart. Without a readable kubeconfig, what was asked for.
    pub(crate) fn place(&self) -> (Option<String>, String) {
        let kubeconfig = read_kubeconfig().unwrap_or_default();
        let context = self.context_of(&kubeconfig).map(str::to_owned);
        let of_context = || self.named(&kubeconfig)?.context.as_ref()?.namespace.clone();
        let namespace = self.namespace.clone().or_else(of_context).unwrap_or_else(|| "default".to_owned());
        (context, namespace)
    }

    /// minikube leaves a note of itself in the kubeconfig, whatever its profile is called.
    pub(crate) fn is_minikube(&self) -> bool {
        let kubeconfig = read_kubeconfig().unwrap_or_default();
        let named = self.named(&kubeconfig);
        let extensions = named.and_then(|named| named.context.as_ref()?.extensions.as_ref());
        extensions.is_some_and(|list| {
            list.iter().any(|extension| extension.extension["provider"] == "minikube.sigs.k8s.io")
        })
    }

    /// As kubectl does: the kubeconfig, or what a pod is given by its cluster.
    pub(super) async fn resolve(&self) -> Result<Resolved> {
        let kubeconfig = match read_kubeconfig() {
            Ok(kubeconfig) => kubeconfig,
            Err(error) if self.context.is_some() => return Err(no_config(&error, None, self)),
            Err(error) => return self.around().ok_or_else(|| no_config(&error, None, self)),
        };
        let context = self.context_of(&kubeconfig).map(str::to_owned);
        if context.is_none()
            && let Some(around) = self.around()
        {
            return Ok(around);
        }
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let context = context.unwrap_or_default();
        let mut config = Config::from_custom_kubeconfig(kubeconfig.clone(), &options)
            .await
            .map_err(|error| no_config(&error, Some(&kubeconfig), self))?;
        if proxy_env::bypasses(&kubeconfig, &context, config.cluster_url.host()) {
            config.proxy_url = None;
        }
        Ok(self.finish(config, format!("context {context}")))
    }

    /// What a pod is given by its cluster; nothing outside of one.
    fn around(&self) -> Option<Resolved> {
        Config::incluster().ok().map(|config| self.finish(config, "the cluster around this pod".to_owned()))
    }

    /// Name of the context that counts.
    fn context_of<'a>(&'a self, kubeconfig: &'a Kubeconfig) -> Option<&'a str> {
        self.context.as_deref().or(kubeconfig.current_context.as_deref())
    }

    /// What the kubeconfig has of it.
    fn named<'a>(&self, kubeconfig: &'a Kubeconfig) -> Option<&'a NamedContext> {
        let name = self.context_of(kubeconfig)?;
        kubeconfig.contexts.iter().find(|named| named.name == name)
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
