//! What the monitor asks of the API server: the four things that its Role allows.

use std::io;
use std::path::PathBuf;

use agent::status::chain;
use contract::cluster::{SERVICE_ACCOUNT, STATEFUL_SET_ENV, status_map};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::http::{self, Ask, Server};
use crate::engine::{Refusal, Scale};

/// Who changed a field, as `kubectl get --show-managed-fields` shows it.
const MANAGER: &str = "shutdown-monitor";

/// The API server, and which builder it is about.
#[derive(Debug, Clone)]
pub struct Api {
    server: Server,
    namespace: String,
    name: String,
}

/// Why the pod's own API server cannot be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    /// The pod was made from another template.
    #[error("{0} is not set in this container: apply the pod's template again (`trampoline-cli setup`)")]
    Variable(&'static str),
    /// A token without a namespace.
    #[error("read {}", path.display())]
    Namespace {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// It was asked, in vain.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// Changed since it was read.
    #[error("{0} has been changed since it was read")]
    Conflict(String),
    /// Its own reason names verb, resource and account.
    #[error(
        "the API server refuses: {0}; the builder's Role allows it (`trampoline-cli setup`, or `setup --rbac` for an administrator)"
    )]
    Forbidden(String),
    /// Neither the token nor the clock may be wrong.
    #[error("the API server does not accept the pod's token: {0}")]
    Token(String),
    /// An object of the template.
    #[error("there is no {0}: `trampoline-cli setup` makes it")]
    Missing(String),
    /// Anything else.
    #[error("the API server answers {status} for {what}: {message}")]
    Other {
        /// HTTP's number.
        status: u16,
        /// Of what.
        what: String,
        /// Its own words.
        message: String,
    },
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Conflict(_) => Self::Conflict,
            other => Self::Trouble(chain(&other)),
        }
    }
}

#[derive(Debug, Deserialize)]
struct ScaleObject {
    metadata: Metadata,
    #[serde(default)]
    spec: ScaleSpec,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    resource_version: String,
}

#[derive(Debug, Default, Deserialize)]
struct ScaleSpec {
    /// Zero is left out.
    #[serde(default)]
    replicas: u32,
}

/// What a refusal looks like.
#[derive(Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    message: String,
}

impl Api {
    /// Of the pod we are in; `None` outside of a cluster.
    ///
    /// # Errors
    /// When it is a cluster, and something is missing: then the builder cannot stop itself.
    pub fn of_this_pod() -> Option<Result<Self, Incomplete>> {
        let account = PathBuf::from(SERVICE_ACCOUNT);
        account.join("token").exists().then(|| Self::in_cluster(account))
    }

    fn in_cluster(account: PathBuf) -> Result<Self, Incomplete> {
        let variable =
            |name| std::env::var(name).ok().filter(|v| !v.is_empty()).ok_or(Incomplete::Variable(name));
        let host = variable("KUBERNETES_SERVICE_HOST")?;
        let port = variable("KUBERNETES_SERVICE_PORT")?;
        let port = port.parse().map_err(|_| Incomplete::Variable("KUBERNETES_SERVICE_PORT"))?;
        let name = variable(STATEFUL_SET_ENV)?;
        let path = account.join("namespace");
        let namespace =
            std::fs::read_to_string(&path).map_err(|source| Incomplete::Namespace { path, source })?;
        Ok(Self::new(Server { host, port, account, limit: http::LIMIT }, namespace.trim(), &name))
    }

    /// For the `StatefulSet` `name`.
    #[must_use]
    pub fn new(server: Server, namespace: &str, name: &str) -> Self {
        Self { server, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The scale as it stands.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn scale(&self) -> Result<Scale, Error> {
        let body = self.ask(&Method::GET, "apps/v1", "statefulsets", &self.name, "/scale", None).await?;
        let scale: ScaleObject = serde_json::from_slice(&body).map_err(|e| Error::Other {
            status: 200,
            what: self.what("statefulsets", &self.name, "/scale"),
            message: e.to_string(),
        })?;
        Ok(Scale { version: scale.metadata.resource_version, replicas: scale.spec.replicas })
    }

    /// Scales to zero, provided that the object is still of that version.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn stop(&self, version: &str) -> Result<(), Error> {
        let patch = json!({ "metadata": { "resourceVersion": version }, "spec": { "replicas": 0 } });
        self.patch("apps/v1", "statefulsets", &self.name, "/scale", &patch).await
    }

    /// Keeps evictions away, or lets them in again.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn budget(&self, closed: bool) -> Result<(), Error> {
        let patch = json!({ "spec": { "maxUnavailable": u8::from(!closed) } });
        self.patch("policy/v1", "poddisruptionbudgets", &self.name, "", &patch).await
    }

    /// Writes keys of the status map; the others stay.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn note(&self, data: &Value) -> Result<(), Error> {
        let patch = json!({ "data": data });
        self.patch("v1", "configmaps", &status_map(&self.name), "", &patch).await
    }

    async fn patch(&self, group: &str, kind: &str, name: &str, sub: &str, body: &Value) -> Result<(), Error> {
        self.ask(&Method::PATCH, group, kind, name, sub, Some(body)).await.map(drop)
    }

    async fn ask(
        &self,
        method: &Method,
        group: &str,
        kind: &str,
        name: &str,
        sub: &str,
        body: Option<&Value>,
    ) -> Result<Vec<u8>, Error> {
        let root = if group.contains('/') { "apis" } else { "api" };
        let query = if body.is_some() { format!("?fieldManager={MANAGER}") } else { String::new() };
        let path = format!("/{root}/{group}/namespaces/{}/{kind}/{name}{sub}{query}", self.namespace);
        let (status, answer) = http::send(&self.server, Ask { method, path: &path, body }).await?;
        if status.is_success() {
            return Ok(answer);
        }
        let what = self.what(kind, name, sub);
        let said: Status = serde_json::from_slice(&answer).unwrap_or_default();
        let message = if said.message.is_empty() { what.clone() } else { said.message };
        Err(match status {
            StatusCode::CONFLICT => Error::Conflict(what),
            StatusCode::FORBIDDEN => Error::Forbidden(message),
            StatusCode::UNAUTHORIZED => Error::Token(message),
            StatusCode::NOT_FOUND => Error::Missing(what),
            other => Error::Other { status: other.as_u16(), what, message },
        })
    }

    fn what(&self, kind: &str, name: &str, sub: &str) -> String {
        format!("{kind}{sub} {name} in namespace {}", self.namespace)
    }
}
