//! A Kubernetes cluster, through its API server.

mod apply;
mod attach;
mod cause;
mod channel;
mod client;
mod connection;
mod credentials;
mod delete;
mod exec;
mod explain;
mod failure;
#[cfg(test)]
mod fake;
mod forward;
mod grow;
mod images;
mod isolation;
mod kubeconfig;
mod liveness;
mod logs;
mod observe;
mod permissions;
mod port;
mod proxy_env;
#[cfg(test)]
mod rounds;
mod scale;
mod spdy;
mod start;
mod stream;
mod streams;
mod target;
mod tunnel;
mod upgrade;
mod wait;
mod way;
mod wire;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use contract::config::Config;
use contract::handshake::LastStop;
use contract::places::Container;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use kube::api::PatchParams;
use tokio::sync::OnceCell;

use super::{
    Belonging, Capacity, Duplex, Engine, Entry, Isolated, Observed, Output, Stream, Trouble, Volume, pod_name,
};
use crate::error::Result;
use crate::render::{Rendering, Sources, diff::Difference};
use crate::resolve::{self, Hosts};
use crate::ui::{Step, Ui};

use client::Cluster;
pub(crate) use kubeconfig::Target;

/// Owner of our fields, as server-side apply calls it.
const FIELD_MANAGER: &str = "trampoline-cli";
/// Annotation of the StatefulSet: when a client last wanted the builder to run. Each change of it makes a stop that was decided
/// before fail.
const WANTED_AT: &str = "io.trampoline/wanted-at";

/// Name of the only pod of a builder's StatefulSet.
pub(crate) fn pod_of(builder: &str) -> String {
    format!("{}-0", pod_name(builder))
}

/// The claims of a builder that are volumes of ours.
fn claims<'a>(
    builder: &str,
    claims: &'a [PersistentVolumeClaim],
) -> Vec<(Volume, &'a PersistentVolumeClaim)> {
    Volume::CLAIMS
        .into_iter()
        .filter_map(|volume| {
            let name = volume.of(builder);
            claims
                .iter()
                .find(|claim| claim.metadata.name.as_ref() == Some(&name))
                .map(|claim| (volume, claim))
        })
        .collect()
}

/// Of a change of single fields, in our name.
fn merging() -> PatchParams {
    PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() }
}

/// As annotations say it.
fn now() -> String {
    k8s_openapi::jiff::Timestamp::now().to_string()
}

/// See the module.
pub(crate) struct Kubernetes {
    ui: Ui,
    target: Target,
    /// Made when it is first needed: rendering needs no cluster.
    cluster: OnceCell<Cluster>,
    /// Version of the pod that was last looked at for trouble; none of one that serves.
    looked: Mutex<Option<String>>,
    /// How often this program has asked the builder to stop.
    stops: AtomicU32,
}

impl Kubernetes {
    pub(crate) fn new(target: Target, ui: Ui) -> Self {
        Self { ui, target, cluster: OnceCell::new(), looked: Mutex::new(None), stops: AtomicU32::new(0) }
    }

    /// From where a watch goes on. What happens in a pod that serves is in its files, which no watch tells of.
    fn remember(&self, seen: &observe::Seen) {
        let version = seen.pod.as_ref().and_then(ResourceExt::resource_version);
        let version = version.or_else(|| seen.set.as_ref().and_then(ResourceExt::resource_version));
        if let Ok(mut looked) = self.looked.lock() {
            *looked = version.filter(|_| !seen.serves());
        }
    }

    /// The way to the API server.
    async fn cluster(&self) -> Result<&Cluster> {
        self.cluster.get_or_try_init(|| Cluster::new(&self.target, self.ui)).await
    }
}

#[async_trait]
impl Engine for Kubernetes {
    async fn preflight(&self, _ui: Ui) -> Result<()> {
        // What a cluster lacks, it says itself when it is asked for it; each question before that would be a round trip.
        Ok(())
    }

    async fn capacity(&self) -> Result<Capacity> {
        // The scheduler knows; limits are no reservation.
        Ok(Capacity { memory: u64::MAX, cpus: u32::MAX, limits: Ok(()), volumes_free: None })
    }

    async fn isolation(&self, sources: &Sources<'_>, observed: &Observed) -> Result<Isolated> {
        let choice = sources.config.daemon.isolation;
        match isolation::wished(choice) {
            Some(chosen) => Ok(chosen),
            None if observed.unseen => Ok(isolation::unasked()),
            None => match isolation::kept(sources, observed)? {
                Some(kept) => Ok(kept),
                None => isolation::choose(self.cluster().await?, sources, observed).await,
            },
        }
    }

    async fn hosts(&self, config: &Config) -> Result<Hosts> {
        resolve::hosts(config).await
    }

    async fn render(&self, sources: &Sources<'_>) -> Result<Rendering> {
        crate::render::kubernetes::render(sources, self.target.namespace.as_deref())
    }

    async fn observe(&self, builder: &str) -> Result<Observed> {
        Ok(observe::seen(self.cluster().await?, builder).await?.observed())
    }

    async fn look(&self, builder: &str) -> Result<Observed> {
        observe::look(self.cluster().await?, builder).await
    }

    async fn wanted(&self, builder: &str) -> Result<Observed> {
        Ok(observe::wanted(self.cluster().await?, builder).await?.observed())
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        observe::all(self.cluster().await?).await
    }

    async fn trouble(&self, builder: &str, closely: bool) -> Result<Trouble> {
        let cluster = self.cluster().await?;
        let seen = observe::seen(cluster, builder).await?;
        self.remember(&seen);
        explain::trouble(cluster, &seen, closely).await
    }

    async fn changed(&self, builder: &str) -> Result<()> {
        let version = self.looked.lock().ok().and_then(|looked| looked.clone());
        wait::something(self.cluster().await?, builder, version.as_deref()).await
    }

    fn permissions(&self, builder: &str) -> Result<String> {
        permissions::manifest(builder, self.target.namespace.as_deref())
    }

    async fn differences(&self, rendering: &Rendering) -> Result<Option<Vec<Difference>>> {
        apply::differences(self.cluster().await?, rendering).await.map(Some)
    }

    async fn announce(&self, rendering: &Rendering) -> Result<()> {
        apply::apply(self.cluster().await?, rendering).await
    }

    async fn apply(&self, rendering: &Rendering, _ui: Ui) -> Result<()> {
        let cluster = self.cluster().await?;
        apply::apply(cluster, rendering).await?;
        scale::start(cluster, &rendering.builder).await
    }

    async fn write_config(&self, rendering: &Rendering) -> Result<()> {
        apply::write_config(self.cluster().await?, rendering).await
    }

    async fn start(&self, builder: &str) -> Result<()> {
        scale::start(self.cluster().await?, builder).await
    }

    async fn stop(&self, observed: &Observed) -> Result<()> {
        let again = self.stops.fetch_add(1, Ordering::Relaxed) > 0;
        scale::stop(self.cluster().await?, &observed.builder, again).await
    }

    async fn stopped(&self, observed: &Observed) -> Result<()> {
        let hurry = self.stops.load(Ordering::Relaxed) > 1;
        wait::pod_gone(self.cluster().await?, &observed.builder, hurry).await
    }

    fn how_pods_go(&self) -> &'static str {
        "somebody has deleted its StatefulSet"
    }

    async fn delete_pod(&self, builder: &str) -> Result<()> {
        delete::pod(self.cluster().await?, builder).await
    }

    async fn belongings(&self, builder: &str) -> Result<Vec<Belonging>> {
        delete::belongings(self.cluster().await?, builder).await
    }

    async fn remove(&self, builder: &str) -> Result<()> {
        delete::all_but_claims(self.cluster().await?, builder).await
    }

    async fn delete_volumes(&self, builder: &str, volumes: &[Volume]) -> Result<()> {
        delete::claims(self.cluster().await?, builder, volumes).await
    }

    async fn attach(
        &self,
        builder: &str,
        container: Container,
        argv: &[OsString],
        tty: bool,
        entry: Entry,
    ) -> Result<i32> {
        let target = target::Target::new(builder, container);
        attach::attach(self.cluster().await?, &target, argv, tty, entry).await
    }

    fn hears(&self, _tty: bool) -> bool {
        true
    }

    async fn exec(&self, builder: &str, container: Container, argv: &[&str], input: &[u8]) -> Result<Output> {
        exec::exec(self.cluster().await?, &target::Target::new(builder, container), argv, input).await
    }

    async fn stream(
        &self,
        builder: &str,
        container: Container,
        argv: &[&str],
        _file: Option<OwnedFd>,
    ) -> Result<Stream> {
        exec::stream(self.cluster().await?, target::Target::new(builder, container), argv).await
    }

    fn hands_over_files(&self) -> bool {
        false
    }

    async fn connect(&self, observed: &Observed) -> Result<Box<dyn Duplex>> {
        forward::connect(self.cluster().await?, &observed.builder).await
    }

    async fn logs(
        &self,
        builder: &str,
        container: Container,
        follow: bool,
        tail: Option<u32>,
    ) -> Result<i32> {
        logs::logs(self.cluster().await?, &target::Target::new(builder, container), follow, tail).await
    }

    async fn log_tail(&self, builder: &str, container: Container, lines: u32) -> Result<String> {
        logs::log_tail(self.cluster().await?, &target::Target::new(builder, container), lines).await
    }

    async fn last_stop(&self, observed: &Observed, _image: &str) -> Result<Option<LastStop>> {
        Ok(observed.last_stop.clone())
    }

    fn config_place(&self, builder: &str) -> String {
        format!("ConfigMap {}", super::pod_name(builder))
    }

    async fn image_id(&self, _image: &str) -> Result<Option<String>> {
        // Nodes have images, and say so only for those that they have pulled lately.
        Ok(None)
    }

    async fn image_system(&self, _image: &str) -> Result<Option<String>> {
        Ok(None)
    }

    fn fetches_images(&self) -> bool {
        true
    }

    fn image_loader(&self) -> Result<Vec<String>> {
        images::loader(&self.target)
    }

    async fn pull(&self, _image: &str, _step: &mut Step) -> Result<()> {
        Ok(())
    }
}
