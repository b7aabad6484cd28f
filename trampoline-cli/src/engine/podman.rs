//! podman on this machine, rootful or rootless, through its command line.

mod command;
mod exec;
mod images;
mod machine;
mod observe;
mod pods;
mod port;
mod preflight;
mod remembered;

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use async_trait::async_trait;
use contract::config::IsolationChoice;
use contract::exit::Exit;
use contract::handshake::{Isolation, LastStop};
use contract::places::Container;

use super::{Belonging, Capacity, Duplex, Engine, Entry, Isolated, Observed, Output, Stream, Volume};
use tokio::sync::{Mutex, OnceCell};

use crate::error::{CliError, Result};
use crate::render::{Rendering, Sources};
use crate::ui::{Step, Ui};

/// See the module.
pub(crate) struct Podman {
    ui: Ui,
    /// What `podman info` says: it takes a quarter of a second, and does not change under us.
    info: OnceCell<machine::Info>,
    /// Name and id of an image that was asked for and is there.
    image: OnceCell<(String, String)>,
    /// Every volume of this machine with its builder, as last listed.
    volumes: Mutex<Option<observe::Owners>>,
}

impl Podman {
    pub(crate) fn new(ui: Ui) -> Self {
        Self { ui, info: OnceCell::new(), image: OnceCell::new(), volumes: Mutex::new(None) }
    }

    async fn info(&self) -> Result<&machine::Info> {
        self.info.get_or_try_init(|| remembered::info(self.ui)).await
    }

    async fn run(&self, args: &[&str]) -> Result<Vec<u8>> {
        command::run(self.ui, args, None).await
    }
}

/// Name of one of the builder's containers.
fn container_name(builder: &str, container: Container) -> String {
    format!("{}-{}", super::pod_name(builder), container.name())
}

#[async_trait]
impl Engine for Podman {
    async fn preflight(&self, ui: Ui) -> Result<()> {
        preflight::check(self.info().await?, ui)
    }

    async fn capacity(&self) -> Result<Capacity> {
        Ok(self.info().await?.capacity())
    }

    async fn isolation(&self, sources: &Sources<'_>, _observed: &Observed) -> Result<Isolated> {
        let config = sources.config;
        if config.daemon.isolation == IsolationChoice::Userns {
            let origin = config.origin("daemon.isolation");
            return Err(CliError::new(
                Exit::Config,
                format!("{origin}: daemon.isolation = \"userns\": podman's pods have no user namespace of that kind"),
            )
            .hint(
                "take it out, and run podman as an ordinary user: root of the builder is then that user, without any privilege \
                 on this machine. In a cluster (`--engine kubernetes`) it works",
            ));
        }
        Ok(Isolated { isolation: Isolation::Privileged, why: None })
    }

    async fn render(&self, sources: &Sources<'_>) -> Result<Rendering> {
        crate::render::podman::render(sources)
    }

    async fn observe(&self, builder: &str) -> Result<Observed> {
        let (observed, owners) = observe::one(self.ui, builder).await?;
        *self.volumes.lock().await = owners;
        Ok(observed)
    }

    async fn survey(&self, builder: &str) -> Result<Observed> {
        let (observed, owners) = observe::whole(self.ui, builder).await?;
        *self.volumes.lock().await = Some(owners);
        Ok(observed)
    }

    fn is_here(&self) -> bool {
        true
    }

    async fn list(&self) -> Result<Vec<Observed>> {
        observe::all(self.ui).await
    }

    async fn apply(&self, rendering: &Rendering, ui: Ui) -> Result<()> {
        pods::apply(self, rendering, ui).await
    }

    async fn write_config(&self, rendering: &Rendering) -> Result<()> {
        pods::write_config(self, rendering).await
    }

    async fn start(&self, builder: &str) -> Result<()> {
        pods::start(self, builder).await
    }

    async fn stop(&self, observed: &Observed) -> Result<()> {
        pods::stop(self, observed).await
    }

    async fn stop_revived(&self, told: Observed, asked: SystemTime) -> Result<Option<Observed>> {
        pods::stop_revived(self, &told, asked).await
    }

    async fn stopped(&self, observed: &Observed) -> Result<()> {
        pods::stopped(self, observed).await
    }

    fn how_pods_go(&self) -> &'static str {
        "`podman system prune` removes stopped pods"
    }

    async fn belongings(&self, builder: &str) -> Result<Vec<Belonging>> {
        pods::bare(self, builder).await
    }

    async fn delete_pod(&self, builder: &str) -> Result<()> {
        pods::delete(self, builder).await
    }

    async fn delete_volumes(&self, builder: &str, volumes: &[Volume]) -> Result<()> {
        pods::delete_volumes(self, builder, volumes).await
    }

    async fn attach(
        &self,
        builder: &str,
        container: Container,
        argv: &[OsString],
        tty: bool,
        entry: Entry,
    ) -> Result<i32> {
        exec::attach(self.ui, &container_name(builder, container), argv, tty, entry).await
    }

    fn hears(&self, tty: bool) -> bool {
        // On a terminal all of it is podman's to carry.
        !tty && !self.hands_over_files()
    }

    async fn exec(&self, builder: &str, container: Container, argv: &[&str], input: &[u8]) -> Result<Output> {
        exec::exec(self.ui, &container_name(builder, container), argv, input).await
    }

    async fn stream(
        &self,
        builder: &str,
        container: Container,
        argv: &[&str],
        file: Option<OwnedFd>,
    ) -> Result<Stream> {
        exec::stream(self.ui, &container_name(builder, container), argv, file)
    }

    fn hands_over_files(&self) -> bool {
        // `podman exec --preserve-fds` needs the pod on this kernel.
        !command::is_remote()
    }

    async fn connect(&self, observed: &Observed) -> Result<Box<dyn Duplex>> {
        let port = observed.ssh_port.ok_or_else(|| {
            CliError::engine(format!("builder {} has no SSH port", observed.builder))
                .hint("`trampoline-cli setup` makes its pod again with one")
        })?;
        port::connect(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)).await
    }

    async fn logs(
        &self,
        builder: &str,
        container: Container,
        follow: bool,
        tail: Option<u32>,
    ) -> Result<i32> {
        exec::logs(self.ui, &container_name(builder, container), follow, tail).await
    }

    async fn log_tail(&self, builder: &str, container: Container, lines: u32) -> Result<String> {
        exec::log_tail(self.ui, &container_name(builder, container), lines).await
    }

    async fn last_stop(&self, observed: &Observed, image: &str) -> Result<Option<LastStop>> {
        observe::last_stop(self.ui, observed, image).await
    }

    async fn kept(&self, builder: &str, image: &str, volume: Volume, path: &str) -> Result<Option<Vec<u8>>> {
        exec::kept(self.ui, builder, image, volume, path).await
    }

    async fn on_store_volume(&self, builder: &str, image: &str, argv: &[&str]) -> Result<Output> {
        exec::on_store_volume(self.ui, builder, image, argv).await
    }

    async fn image_id(&self, image: &str) -> Result<Option<String>> {
        if let Some((_, id)) = self.image.get().filter(|(name, _)| name == image) {
            return Ok(Some(id.clone()));
        }
        let found = images::id(self.ui, image).await?;
        if let Some(id) = &found {
            // Another image was first: then this one is asked for each time.
            let _ = self.image.set((image.to_owned(), id.clone()));
        }
        Ok(found)
    }

    async fn image_system(&self, image: &str) -> Result<Option<String>> {
        images::system(self.ui, image).await
    }

    async fn pull(&self, image: &str, step: &mut Step) -> Result<()> {
        images::pull(self.ui, image, step).await
    }
}
