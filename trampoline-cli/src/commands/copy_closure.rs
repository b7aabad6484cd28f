//! `copy-closure`: store paths between this machine's store and the builder's, by the local Nix.

use std::path::Path;

use clap::Args;
use contract::exit::Exit;
use contract::keys;
use contract::room::READING;
use tokio::process::Command;

use crate::closure::{Closure, Peer};
use crate::context::{Context, current_dir};
use crate::error::{CliError, Result};
use crate::global::Global;
use crate::signing::{self, Key};
use crate::ui::{Ui, bytes};
use crate::{sshconfig, wake};

/// Names of paths that a question lists.
const LISTED: usize = 20;

/// Copy store paths and all they need into the builder, or back
///
/// Uses the local Nix. What was built here, or signed by a key that this machine trusts, is signed on its way with the key that
/// `setup` has made known to the builder; for what came from elsewhere unsigned you are asked.
#[derive(Args)]
#[command(after_help = "\
Examples:
  trampoline-cli copy-closure ./result
  trampoline-cli copy-closure /nix/store/…-source
  trampoline-cli copy-closure --from /nix/store/…-hello-1.0
  trampoline-cli copy-closure --from $(trampoline-cli build -q -f hello.nix)

What the builder has built carries its signature. A machine of several users takes it back where its nix.conf says
  extra-trusted-public-keys = KEY                the first that `trampoline-cli keys ls` prints")]
pub(crate) struct CopyClosure {
    /// What to copy
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<String>,
    /// From the builder into this machine's store
    #[arg(long)]
    from: bool,
    /// Do not ask: sign also what this machine got from elsewhere, unsigned
    #[arg(long, short, conflicts_with = "from")]
    yes: bool,
}

impl CopyClosure {
    pub(crate) async fn run(&self, global: &Global) -> Result<u8> {
        let context = Context::new(global)?;
        let dir = current_dir()?;
        let paths = self.paths.iter().map(|path| store_path(path, &dir)).collect::<Result<Vec<_>>>()?;
        let sent = if self.from {
            from_builder(&context, &paths).await?;
            None
        } else {
            Some(self.to_builder(&context, &paths).await?)
        };
        if context.ui.json {
            context.ui.object(&serde_json::json!({ "copied": paths, "sent": sent }))?;
        }
        Ok(0)
    }

    /// Returns how many paths the builder lacked.
    async fn to_builder(&self, context: &Context, roots: &[String]) -> Result<usize> {
        // A builder that cannot be reached, or is not there, is said before this machine's store is looked through.
        let (observed, trusted) =
            tokio::join!(context.engine.observe(&context.name), trusted_here(context.ui));
        let trusted = match trusted {
            // Nothing that this command could do anywhere.
            Err(error) if error.exit == Exit::Unsupported => return Err(error),
            trusted if observed?.exists() => trusted?,
            _ => return Err(wake::absent(context)),
        };
        let roots = roots.to_vec();
        // Before the builder is started for nothing.
        let (mut local, mut closure) = blocking(move || {
            let mut local = Peer::start(local_daemon(), "this machine's store")?;
            let closure = Closure::of(&mut local, &roots)?;
            Ok((local, closure))
        })
        .await?;
        wake::running(context).await?;
        let config = sshconfig::refresh(context).await?;
        let mut ssh = std::process::Command::new("ssh");
        ssh.arg("-F").arg(&config).args(["-T", &context.name, "nix-daemon", "--stdio"]);
        context.ui.detail(format!("+ ssh -F {} -T {} nix-daemon --stdio", config.display(), context.name));
        let who = format!("builder {}", context.name);
        let (mut remote, mut closure) = blocking(move || {
            let mut remote = Peer::start(ssh, &who)?;
            closure.without_valid(&mut remote)?;
            Ok((remote, closure))
        })
        .await?;
        let count = closure.len();
        if count == 0 {
            context.ui.say(format!("builder {} has them already", context.name));
            return Ok(0);
        }
        self.vouch(context, &mut closure, &trusted).await?;
        let size = bytes(closure.bytes());
        let mut step = context.ui.step(format!("copying {}", counted(count)));
        let step = blocking(move || closure.send(&mut local, &mut remote, &mut step).map(|()| step)).await?;
        step.done(&format!("copied {} ({size}) into builder {}", counted(count), context.name));
        Ok(count)
    }

    /// Signs what the builder does not take as it is.
    async fn vouch(&self, context: &Context, closure: &mut Closure, trusted: &[String]) -> Result<()> {
        let taken = signing::known(context).await?;
        let all: Vec<&str> = taken.all().collect();
        let Some(needy) = closure.needs_signature(&all) else { return Ok(()) };
        let key = Key::find(&context.state)?.filter(|key| taken.knows(key.public())).ok_or_else(|| {
            CliError::new(
                Exit::NoPermission,
                format!("builder {} does not know the key of this machine, without whose signature it refuses {needy}", context.name),
            )
            .hint("`trampoline-cli keys add` makes it known")
        })?;
        let unknown = closure.unknown(trusted);
        if let (Some(first), false) = (unknown.first(), self.yes) {
            unknown.iter().take(LISTED).for_each(|path| context.ui.say(path));
            let rest = unknown.len().saturating_sub(1);
            let others = if rest == 0 { String::new() } else { format!(" and {} more", counted(rest)) };
            let question =
                format!("this machine got {first}{others} from elsewhere, unsigned; sign for the builder?");
            let otherwise = "`copy-closure --yes` signs without asking; what is built from them there is as good as they are";
            if !context.ui.ask(&question, otherwise)? {
                return Err(CliError::new(Exit::NoPermission, "not signed, and not copied"));
            }
        }
        context.ui.detail(format!("signing with {}", keys::name(key.public())));
        closure.sign(&key)
    }
}

/// By Nix itself, which asks this machine's daemon to take it.
async fn from_builder(context: &Context, paths: &[String]) -> Result<()> {
    let mut nix = Nix::new(context, "copy").await?;
    // A trusted user, or the only one, decides without a signature; for all others the daemon looks at it all the same.
    let store = format!("{}?remote-program={}", nix.store, READING.replace(' ', "%20"));
    nix.command.args(["--no-check-sigs", "--from", &store]).args(paths);
    let status = nix.command.status().await.map_err(|error| no_nix(&error))?;
    if status.success() {
        return Ok(());
    }
    let own = signing::known(context).await.map(|known| known.own);
    let error = CliError::new(Exit::ChildFailed, format!("`nix copy` failed ({status})"));
    Err(error.hint(format!(
        "if it says that a path lacks a signature, this machine's daemon must know the builder's key. In its nix.conf:\n\
         extra-trusted-public-keys = {}\nand restart it (`systemctl restart nix-daemon`)",
        own.as_deref().unwrap_or("(the first line of `trampoline-cli keys ls`)")
    )))
}

/// The store path that a path of this machine is, leads to, or lies in. By hand: this machine's store may lie elsewhere than
/// at /nix.
fn store_path(given: &str, dir: &Path) -> Result<String> {
    let found = contract::roots::store_path(&dir.join(given), |path| std::fs::read_link(path).ok());
    found.ok_or_else(|| {
        CliError::new(Exit::Usage, format!("{given} is not a store path"))
            .hint("name paths below /nix/store, or a `result` link to one")
    })
}

fn local_daemon() -> std::process::Command {
    let mut command = std::process::Command::new("nix-daemon");
    command.arg("--stdio");
    command
}

/// Whose signatures this machine's Nix takes.
async fn trusted_here(ui: Ui) -> Result<Vec<String>> {
    // The second is what it was called before Nix 2.20.
    for words in ["config show", "show-config"] {
        let mut nix = Command::new("nix");
        nix.args(["--extra-experimental-features", "nix-command"]).args(words.split(' ')).arg("--json");
        let output = nix.output().await.map_err(|error| no_nix(&error))?;
        ui.detail(format!("+ nix {words} --json"));
        let settings: Option<serde_json::Value> = serde_json::from_slice(&output.stdout).ok();
        let keys = settings.and_then(|all| all["trusted-public-keys"]["value"].as_array().cloned());
        if let Some(keys) = keys {
            return Ok(keys.iter().filter_map(|key| key.as_str().map(str::to_owned)).collect());
        }
    }
    Err(CliError::new(
        Exit::ChildFailed,
        "`nix show-config --json` does not say which keys this machine trusts",
    ))
}

/// In a thread that may wait.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(CliError::new(Exit::Internal, format!("a thread was lost: {error}"))))
}

fn counted(count: usize) -> String {
    if count == 1 { "1 path".to_owned() } else { format!("{count} paths") }
}

/// The local Nix, set up to reach the builder.
pub(crate) struct Nix {
    /// Ready for its arguments.
    pub(crate) command: Command,
    /// The builder's store.
    pub(crate) store: String,
}

impl Nix {
    /// Asks for Nix before the builder is started for nothing.
    pub(crate) async fn new(context: &Context, subcommand: &str) -> Result<Self> {
        let version = Command::new("nix").arg("--version").output().await.map_err(|error| no_nix(&error))?;
        context.ui.detail(String::from_utf8_lossy(&version.stdout).trim());
        wake::running(context).await?;
        let config = sshconfig::refresh(context).await?;
        let mut command = Command::new("nix");
        command.args(["--extra-experimental-features", "nix-command flakes"]).args(subcommand.split(' '));
        let options = format!("-F {}", config.display());
        if config.display().to_string().contains(char::is_whitespace) {
            return Err(CliError::new(
                Exit::Io,
                format!("Nix cannot be given the path {}", config.display()),
            )
            .hint("set XDG_STATE_HOME to a folder without spaces in its name"));
        }
        context.ui.detail(format!("+ NIX_SSHOPTS='{options}' nix {subcommand} …"));
        command.env("NIX_SSHOPTS", options);
        Ok(Self { command, store: format!("ssh-ng://{}", context.name) })
    }
}

/// What works without it.
pub(crate) fn no_nix(error: &std::io::Error) -> CliError {
    let message = if error.kind() == std::io::ErrorKind::NotFound {
        "this machine has no Nix, whose store this command reads".to_owned()
    } else {
        format!("cannot run nix: {error}")
    };
    CliError::new(Exit::Unsupported, message)
        .hint("`trampoline-cli push-tarball` and `trampoline-cli build` work without; the builder has a Nix of its own")
}
