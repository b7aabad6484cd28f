//! What a builder needs of whatever runs its pod, and nothing else. Every subcommand is written once, against
//! [`Engine`].

mod entry;
mod handed;
mod kubernetes;
mod observed;
pub(crate) mod podman;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use contract::config::Config;
use contract::handshake::{Isolation, LastStop};
use contract::places::Container;
use tokio::io::{AsyncRead, AsyncWrite};

pub(crate) use entry::{Entry, Word, may_be_a_refusal};
pub(crate) use handed::handed;
pub(crate) use kubernetes::Target;
pub(crate) use observed::{ContainerState, Observed, Place, PodPhase, Published};

use crate::error::{CliError, Result};
use crate::render::{Rendering, Sources, diff::Difference};
use crate::resolve::Hosts;
use crate::ui::{Step, Ui};

/// As engines say that a port of this machine is in use.
pub(crate) const PORT_TAKEN: &str = "address already in use";

/// Between two looks at a builder that starts.
pub(crate) const LOOK: Duration = Duration::from_millis(150);

/// Labels of everything that we make. Nothing else is ever touched.
pub(crate) mod label {
    /// The builder's name.
    pub(crate) const BUILDER: &str = "io.trampoline.builder";
    /// `user@host` of whoever made it.
    pub(crate) const OWNER: &str = "io.trampoline.owner";
    /// Digest of the rendered pod.
    pub(crate) const DIGEST: &str = "io.trampoline.digest";
    /// Version of the client that made it.
    pub(crate) const VERSION: &str = "io.trampoline.version";
    /// Of the NetworkPolicy: hosts with the addresses that stand for them in it.
    pub(crate) const EGRESS: &str = "io.trampoline.egress";
}

/// Name of a builder's pod, and the beginning of the names of all that belongs to it.
pub(crate) fn pod_name(builder: &str) -> String {
    format!("trampoline-{builder}")
}

/// What the machine has to give.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Capacity {
    /// Bytes.
    pub(crate) memory: u64,
    /// Whole ones.
    pub(crate) cpus: u32,
    /// Whether limits can be set at all; if not, why.
    pub(crate) limits: std::result::Result<(), &'static str>,
    /// Free bytes where volumes are kept, if that is known.
    pub(crate) volumes_free: Option<u64>,
}

/// What a command that ran in the pod left behind.
#[derive(Debug)]
pub(crate) struct Output {
    /// Its exit code.
    pub(crate) code: i32,
    /// All of it.
    pub(crate) stdout: Vec<u8>,
    /// All of it.
    pub(crate) stderr: Vec<u8>,
}

/// The last line that is not empty.
pub(crate) fn last_line(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

/// So many at its end.
pub(crate) fn last_lines(text: &[u8], lines: u32) -> &[u8] {
    let ends: Vec<usize> =
        text.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    // A last line without an end is one, too.
    let open = usize::from(text.last().is_some_and(|byte| *byte != b'\n'));
    let wanted = usize::try_from(lines).unwrap_or(usize::MAX).saturating_sub(open);
    match ends.len().checked_sub(wanted + 1) {
        Some(before) => &text[ends[before]..],
        None => text,
    }
}

/// A command that runs in the pod, with its streams in our hands.
pub(crate) struct Stream {
    /// Dropped to close it.
    pub(crate) stdin: Box<dyn AsyncWrite + Send + Unpin>,
    /// Until it ends.
    pub(crate) stdout: Box<dyn AsyncRead + Send + Unpin>,
    /// Its exit code and what it wrote to stderr, once it has ended.
    pub(crate) end: tokio::task::JoinHandle<Result<(i32, Vec<u8>)>>,
}

impl Stream {
    /// Waits for its end.
    pub(crate) async fn finish(self) -> Result<(i32, Vec<u8>)> {
        drop(self.stdin);
        drop(self.stdout);
        self.end
            .await
            .map_err(|error| CliError::engine(format!("the command in the pod was lost: {error}")))?
    }
}

/// Bytes both ways.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What keeps the builds of a builder apart from the machine.
#[derive(Debug)]
pub(crate) struct Isolated {
    /// It.
    pub(crate) isolation: Isolation,
    /// Why, for the user, where it was chosen.
    pub(crate) why: Option<String>,
}

impl Isolated {
    /// Chosen for this reason.
    pub(crate) fn because(isolation: Isolation, why: &str) -> Self {
        Self { isolation, why: Some(format!("isolation: {}, since {why}", isolation.name())) }
    }
}

/// Something that was made for a builder.
#[derive(Debug)]
pub(crate) struct Belonging {
    /// For a person.
    pub(crate) what: String,
    /// It holds the store or the home.
    pub(crate) data: bool,
}

/// What keeps a pod from running.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// Nothing that the engine knows of.
    None,
    /// Something that passes, for the progress.
    Waiting(String),
    /// Something that does not pass by itself.
    Fatal(CliError),
}

/// A kind of volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Volume {
    /// `/nix`.
    Store,
    /// The user's home: pushed trees, jobs, host key.
    Home,
    /// Where builds work; empty at each start.
    Build,
    /// In memory.
    Run,
    /// trampoline.toml.
    Config,
}

impl Volume {
    pub(crate) const ALL: [Self; 5] = [Self::Store, Self::Home, Self::Run, Self::Config, Self::Build];
    /// Those that are on disk in a cluster, too.
    pub(crate) const CLAIMS: [Self; 3] = [Self::Store, Self::Home, Self::Build];

    /// In the template and in the volume's own name.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Home => "home",
            Self::Build => "build",
            Self::Run => "run",
            Self::Config => "config",
        }
    }

    /// Name of the volume, or of the claim.
    pub(crate) fn of(self, builder: &str) -> String {
        format!("{}-{}", pod_name(builder), self.name())
    }
}

/// Whatever runs pods.
#[async_trait]
pub(crate) trait Engine: Send + Sync {
    /// Refuses a machine on which a builder cannot run, with what to type; warns of what makes it slow.
    async fn preflight(&self, ui: Ui) -> Result<()>;

    /// What the machine has to give.
    async fn capacity(&self) -> Result<Capacity>;

    /// What keeps builds apart from the machine: as the configuration says, or what fits the engine and the builder that is there.
    async fn isolation(&self, sources: &Sources<'_>, observed: &Observed) -> Result<Isolated>;

    /// Addresses of the hosts that the pod may speak to, where the engine is told of them.
    async fn hosts(&self, _config: &Config) -> Result<Hosts> {
        Ok(Hosts::new())
    }

    /// The pod and volumes as they should be.
    async fn render(&self, sources: &Sources<'_>) -> Result<Rendering>;

    /// Everything of one builder.
    async fn observe(&self, builder: &str) -> Result<Observed>;

    /// The same for somebody who only wants to know: a note that is about to be written is waited for, for a moment.
    async fn look(&self, builder: &str) -> Result<Observed> {
        self.observe(builder).await
    }

    /// The same, for somebody who needs it running: a stop that others decide on meanwhile does not happen, where the engine can
    /// see to that.
    async fn wanted(&self, builder: &str) -> Result<Observed> {
        self.observe(builder).await
    }

    /// As [`Self::wanted`], for somebody who makes what is missing.
    async fn survey(&self, builder: &str) -> Result<Observed> {
        self.wanted(builder).await
    }

    /// Whether the pod is on this machine: it runs as soon as [`Self::start`] returns, and nobody but the agents in it decides on
    /// its stop, so that a command may go in without [`Self::wanted`] and learn there whether it is in time.
    fn is_here(&self) -> bool {
        false
    }

    /// What keeps a pod that was asked for from running. Unless `closely`, what costs most to find out is left out: why the engine itself
    /// is late.
    async fn trouble(&self, _builder: &str, _closely: bool) -> Result<Trouble> {
        Ok(Trouble::None)
    }

    /// Returns when something of the pod has changed, or after a moment: what happens inside cannot be watched from outside.
    async fn changed(&self, _builder: &str) -> Result<()> {
        tokio::time::sleep(LOOK).await;
        Ok(())
    }

    /// What [`Self::apply`] would change, from an engine that keeps what was last applied; others leave it to the client to
    /// remember.
    async fn differences(&self, _rendering: &Rendering) -> Result<Option<Vec<Difference>>> {
        Ok(None)
    }

    /// Lets the engine know what the next pod is made from, where it keeps that apart from the pod. What runs goes on.
    async fn announce(&self, _rendering: &Rendering) -> Result<()> {
        Ok(())
    }

    /// Every builder.
    async fn list(&self) -> Result<Vec<Observed>>;

    /// Makes what is missing of volumes and pod, and starts it. The pod must not exist.
    async fn apply(&self, rendering: &Rendering, ui: Ui) -> Result<()>;

    /// Replaces the configuration that the pod sees.
    async fn write_config(&self, rendering: &Rendering) -> Result<()>;

    /// Starts the pod. Only from [`PodPhase::Stopped`].
    async fn start(&self, builder: &str) -> Result<()>;

    /// Asks all containers to leave; asked twice, they leave without waiting for builds.
    async fn stop(&self, observed: &Observed) -> Result<()>;

    /// Asks containers that run again since `told` was observed: one that was between two lives when the others were asked has not
    /// heard it. What is known of them now; none: all had ended, and somebody has started the builder again since it was `asked`.
    async fn stop_revived(&self, told: Observed, _asked: SystemTime) -> Result<Option<Observed>> {
        Ok(Some(told))
    }

    /// Returns when no container runs any more.
    async fn stopped(&self, observed: &Observed) -> Result<()>;

    /// What may have taken a pod away, for people.
    fn how_pods_go(&self) -> &'static str;

    /// Removes the pod at once, volumes stay.
    async fn delete_pod(&self, builder: &str) -> Result<()>;

    /// What there is of a builder, where that is more than [`Self::observe`] tells: also what an interrupted `setup` left.
    async fn belongings(&self, _builder: &str) -> Result<Vec<Belonging>> {
        Ok(Vec::new())
    }

    /// Removes everything of a builder but its volumes.
    async fn remove(&self, builder: &str) -> Result<()> {
        self.delete_pod(builder).await
    }

    /// Removes these volumes; absent ones are fine.
    async fn delete_volumes(&self, builder: &str, volumes: &[Volume]) -> Result<()>;

    /// Runs a command with our own stdin, stdout and stderr; with `tty` on a terminal of its own.
    async fn attach(
        &self,
        builder: &str,
        container: Container,
        argv: &[OsString],
        tty: bool,
        entry: Entry,
    ) -> Result<i32>;

    /// Whether [`Self::attach`] hears a [`Word`]. It may fail as stopping as well, where a command was certainly not let in.
    fn hears(&self, tty: bool) -> bool;

    /// Runs a command to its end.
    async fn exec(&self, builder: &str, container: Container, argv: &[&str], input: &[u8]) -> Result<Output>;

    /// Runs a command with its streams in our hands. `file` becomes its descriptor 3 where
    /// [`Self::hands_over_files`].
    async fn stream(
        &self,
        builder: &str,
        container: Container,
        argv: &[&str],
        file: Option<OwnedFd>,
    ) -> Result<Stream>;

    /// Whether an open file can be given to a command in the pod, which then reads it itself.
    fn hands_over_files(&self) -> bool;

    /// A connection to the pod's sshd. Its own end may not be told to sshd when it is shut down: whoever has said all that there
    /// is to say reads to the end, or drops it.
    async fn connect(&self, observed: &Observed) -> Result<Box<dyn Duplex>>;

    /// Lines of a container's log go to stdout and stderr as they come.
    async fn logs(&self, builder: &str, container: Container, follow: bool, tail: Option<u32>)
    -> Result<i32>;

    /// The last lines of a container's log.
    async fn log_tail(&self, builder: &str, container: Container, lines: u32) -> Result<String>;

    /// Why it last stopped, from the store volume of a builder that does not run; of this image, if it has no pod.
    async fn last_stop(&self, observed: &Observed, image: &str) -> Result<Option<LastStop>>;

    /// A small file on a volume of a builder that does not run, read by a program of this image; none: there is no such file.
    async fn kept(
        &self,
        builder: &str,
        _image: &str,
        volume: Volume,
        _path: &str,
    ) -> Result<Option<Vec<u8>>> {
        Err(CliError::engine(format!(
            "builder {builder} sleeps, and nobody in the cluster has its {} volume open",
            volume.name()
        ))
        .hint("`trampoline-cli up` starts it"))
    }

    /// Where the agents of a builder find trampoline.toml, for people.
    fn config_place(&self, builder: &str) -> String {
        format!("volume {}", Volume::Config.of(builder))
    }

    /// Runs a command of the image with the store volume of a builder that does not run.
    async fn on_store_volume(&self, builder: &str, _image: &str, _argv: &[&str]) -> Result<Output> {
        Err(CliError::engine(format!(
            "builder {builder} sleeps, and nobody in the cluster has its store volume open"
        ))
        .hint("`trampoline-cli up` starts it; then `logs --previous` shows what it logged before"))
    }

    /// Whether the engine has this image; its id.
    async fn image_id(&self, image: &str) -> Result<Option<String>>;

    /// Nix's name of the platform that this image is for, if the engine has it.
    async fn image_system(&self, image: &str) -> Result<Option<String>>;

    /// The permissions that this client needs of the engine, as its administrators grant them.
    fn permissions(&self, _builder: &str) -> Result<String> {
        Err(CliError::usage("podman on this machine asks for no permissions")
            .hint("`--engine kubernetes` has some"))
    }

    /// Whether it fetches images by itself when a pod needs them.
    fn fetches_images(&self) -> bool {
        false
    }

    /// The command line that puts an image on the nodes, but for the name of the archive, which comes last.
    fn image_loader(&self) -> Result<Vec<String>> {
        Err(CliError::usage("a builder of podman uses the images of this machine: there is nothing to load")
            .hint("`--engine kubernetes` is for a cluster; `trampoline-cli image build` makes the image"))
    }

    /// Fetches an image from its registry.
    async fn pull(&self, image: &str, step: &mut Step) -> Result<()>;
}

/// What the command line says about the engine; what it leaves open, the configuration says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Choice {
    /// `--engine`. A context or namespace alone means a cluster.
    pub(crate) engine: Option<contract::config::Engine>,
    /// `--context` and `--namespace`.
    pub(crate) target: Target,
}

/// An engine, and where it is.
pub(crate) struct Chosen {
    /// What runs builders.
    pub(crate) engine: Box<dyn Engine>,
    /// What tells builders of one name apart; nothing for those of this machine.
    pub(crate) cluster: Option<String>,
    /// Options of this program that choose the same from any folder.
    pub(crate) options: Vec<String>,
}

/// The engine that the command line or the configuration names.
pub(crate) fn of(config: &contract::config::Config, choice: &Choice, ui: Ui) -> Result<Chosen> {
    use contract::config::Engine as Named;
    let given = &choice.target;
    let cluster = given.context.is_some() || given.namespace.is_some();
    match choice.engine.unwrap_or(if cluster { Named::Kubernetes } else { config.builder.engine }) {
        Named::Podman if cluster => Err(CliError::usage(
            "--context and --namespace are for a cluster, and this builder's engine is podman",
        )
        .hint("leave them out, or say `--engine kubernetes`")),
        Named::Podman => Ok(Chosen {
            engine: Box::new(podman::Podman::new(ui)),
            cluster: None,
            options: vec!["--engine".to_owned(), "podman".to_owned()],
        }),
        Named::Kubernetes => {
            let target = Target {
                context: given.context.clone().or_else(|| config.kubernetes.context.clone()),
                namespace: given.namespace.clone().or_else(|| config.kubernetes.namespace.clone()),
            };
            let (context, namespace) = target.place();
            let mut options = vec!["--engine".to_owned(), "kubernetes".to_owned()];
            if let Some(context) = &context {
                options.extend(["--context".to_owned(), context.clone()]);
            }
            options.extend(["--namespace".to_owned(), namespace.clone()]);
            Ok(Chosen {
                engine: Box::new(kubernetes::Kubernetes::new(target, ui)),
                cluster: Some(format!("{}\n{namespace}", context.unwrap_or_default())),
                options,
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::last_lines;

    #[test]
    fn the_last_lines() {
        for (text, lines, last) in [
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb\nc", 2, "b\nc"),
            ("a\nb\n", 5, "a\nb\n"),
            ("a\nb\n", 0, ""),
            ("", 3, ""),
        ] {
            assert_eq!(last_lines(text.as_bytes(), lines), last.as_bytes(), "{text:?} {lines}");
        }
    }
}
