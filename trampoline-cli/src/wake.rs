//! Every command that needs a running builder starts it.

use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::handshake::{AgentStatus, BuilderStatus, Phase, StopPhase};
use contract::places::Container;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use crate::context::Context;
use crate::engine::{Observed, Output, PodPhase, Trouble};
use crate::error::{CliError, Result};
use crate::prepare;
use crate::render::Rendering;
use crate::state::Lock;
use crate::ui::Step;

/// `user-init`, as the engine runs it.
pub(crate) const USER_INIT: &str = "/opt/trampoline/bin/user-init";
/// What keeps a start from going on is told once it lasts this long.
const WORTH_A_WORD: Duration = Duration::from_secs(2);
/// Version of this program, and of the agents that it carries.
const OURS: &str = env!("CARGO_PKG_VERSION");
/// What to do where the image does not know what this client asks for.
const OTHER_VERSION: &str =
    "client and image are of different versions: `trampoline-cli image build` makes the default image anew";
/// Lines of a log that go into a message.
const LAST_WORDS: u32 = 8;

/// The builder, running; started or made again if need be.
pub(crate) async fn running(context: &Context) -> Result<Observed> {
    let observed = context.engine.wanted(&context.name).await?;
    if observed.phase() == PodPhase::Running {
        return Ok(observed);
    }
    if !observed.exists() {
        return Err(absent(context));
    }
    let lock = context.state.lock(context.ui).await?;
    let observed = context.engine.wanted(&context.name).await?;
    start(context, observed, &lock).await
}

/// What every command says where there is no builder.
pub(crate) fn absent(context: &Context) -> CliError {
    CliError::new(Exit::Engine, format!("there is no builder {}", context.name)).hint(
        "`trampoline-cli setup` makes it; `trampoline-cli list` shows those that exist (--name chooses one)",
    )
}

/// Starts it from wherever it stands, which was looked at under the lock, and waits until it is ready.
pub(crate) async fn start(context: &Context, mut observed: Observed, lock: &Lock) -> Result<Observed> {
    if let Some(killed) = observed.killed() {
        let (name, what) = (&context.name, &killed.name);
        context.ui.say(format!("the {what} container of builder {name} was killed; starting it again"));
        context.engine.start(name).await?;
        observed = context.engine.observe(name).await?;
    } else if observed.phase() == PodPhase::Stopping {
        let step = context
            .ui
            .step(format!("builder {} is stopping; waiting for it to start it again", context.name));
        context.engine.stopped(&observed).await?;
        step.clear();
        observed = context.engine.observe(&context.name).await?;
    }
    match observed.phase() {
        PodPhase::Running | PodPhase::Starting => {}
        PodPhase::Stopped if port_is_ours(&observed) => {
            context.engine.start(&context.name).await?;
            if context.engine.is_here() {
                ready(context, &format!("starting builder {}", context.name)).await?;
                observed.containers.iter_mut().for_each(|container| container.running = true);
                return Ok(observed);
            }
        }
        PodPhase::Stopped | PodPhase::Broken | PodPhase::Absent if observed.exists() => {
            make_again(context, &observed, lock).await?;
        }
        _ => return Err(absent(context)),
    }
    ready(context, &format!("starting builder {}", context.name)).await?;
    context.engine.observe(&context.name).await
}

/// A stopped pod's port may be somebody else's by now, and podman cannot change a pod's port.
fn port_is_ours(observed: &Observed) -> bool {
    observed.ssh_port.is_none_or(prepare::is_free)
}

/// From its volumes, as it was.
async fn make_again(context: &Context, observed: &Observed, _lock: &Lock) -> Result<()> {
    let taken = !observed.containers.is_empty() && !port_is_ours(observed);
    if taken && context.settings.config.builder.ssh_port.is_none() {
        context.ui.say("the builder's SSH port is taken by another program now; giving it a new one");
    } else if observed.containers.is_empty() {
        context.ui.say(format!(
            "the pod of builder {} is gone, its volumes are there: making it again",
            context.name
        ));
    }
    let saved = context.state.read::<Rendering>(prepare::RENDERING).filter(|_| !taken);
    let rendering = match saved {
        Some(rendering) if prepare::is_free(rendering.ssh_port) => rendering,
        _ => {
            let observed = Observed { ssh_port: None, ..observed.clone() };
            prepare::rendering(context, &observed).await?.0
        }
    };
    context.engine.delete_pod(&context.name).await?;
    context.engine.apply(&rendering, context.ui).await?;
    context.state.write(prepare::RENDERING, &rendering)
}

/// What the pod publishes; nothing where its user container does not answer.
pub(crate) async fn status(context: &Context) -> Result<Option<BuilderStatus>> {
    let output = context.engine.exec(&context.name, Container::User, &[USER_INIT, "status"], &[]).await?;
    if output.code != 0 {
        return Ok(None);
    }
    serde_json::from_slice(&output.stdout).map(Some).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> CliError {
    CliError::new(Exit::Internal, format!("cannot read the builder's status: {error}"))
        .hint("client and image are of different versions: `trampoline-cli setup` brings them together")
}

/// Waits until the daemon answers and sessions are served.
pub(crate) async fn ready(context: &Context, what: &str) -> Result<()> {
    ready_for(context, what, None).await
}

/// The same; whoever has one of these keys may come in then.
pub(crate) async fn ready_for(context: &Context, what: &str, keys: Option<&str>) -> Result<()> {
    // The agents give up first, and say why.
    let deadline = Instant::now() + context.settings.config.daemon.ready_timeout + Duration::from_secs(30);
    let mut step = context.ui.step(what);
    let began = Instant::now();
    loop {
        let trouble = context.engine.trouble(&context.name).await?;
        let told = match trouble {
            Trouble::Fatal(error) => {
                step.clear();
                return Err(error);
            }
            Trouble::Waiting(line) => {
                // What every start goes through is over by then.
                if began.elapsed() >= WORTH_A_WORD {
                    step.at(&line);
                }
                None
            }
            Trouble::None => {
                let waiting = await_served(context, keys, &mut step);
                tokio::time::timeout_at(deadline.into(), waiting).await.ok().transpose()?
            }
        };
        match told {
            Some(Told::Served(status)) => {
                step.done(&format!("builder {} is ready", context.name));
                if let Some(theirs) = other_version(&status, OURS) {
                    context.ui.warn(format!(
                        "builder {} is of version {theirs}, this client of {OURS}: `trampoline-cli setup` brings them together",
                        context.name
                    ));
                }
                return Ok(());
            }
            Some(Told::Failed(failed)) => {
                step.clear();
                return Err(agent_failed(context, &failed));
            }
            Some(Told::Nothing) | None => {}
        }
        if let Some(error) = broken(context).await? {
            step.clear();
            return Err(error);
        }
        if Instant::now() >= deadline {
            step.clear();
            return Err(CliError::new(Exit::Deadline, format!("builder {} was not ready in time", context.name))
                .hint("`trampoline-cli logs daemon` shows what it is at; `ready-timeout` under [daemon] is the deadline"));
        }
        context.engine.changed(&context.name).await?;
    }
}

/// How waiting in the pod ended.
enum Told {
    Served(Box<BuilderStatus>),
    Failed(Box<AgentStatus>),
    /// The user container does not answer, or has begun anew.
    Nothing,
}

/// Waits in the pod, where the kernel tells of each change.
async fn await_served(context: &Context, keys: Option<&str>, step: &mut Step) -> Result<Told> {
    let mut argv = vec![USER_INIT, "await"];
    argv.extend(keys.map(|_| "--keys"));
    let mut stream = match context.engine.stream(&context.name, Container::User, &argv, None).await {
        // It has ended since it was looked at; whether it comes again, the next look tells.
        Err(error) if error.exit == Exit::Stopping => return Ok(Told::Nothing),
        stream => stream?,
    };
    if let Some(keys) = keys {
        // An empty line ends them: to close the stream may end both directions. One that ends before it has read them says
        // why by its exit code.
        let _ = stream.stdin.write_all(keys.as_bytes()).await;
        let _ = stream.stdin.write_all(b"\n").await;
        let _ = stream.stdin.flush().await;
    }
    let mut lines =
        BufReader::new(std::mem::replace(&mut stream.stdout, Box::new(tokio::io::empty()))).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let status: BuilderStatus = serde_json::from_str(&line).map_err(|error| unreadable(&error))?;
        // Its end is not waited for: the engine takes its time to tell.
        if is_ready(&status) {
            return Ok(Told::Served(Box::new(status)));
        }
        if let Some(failed) = first_failed(&status) {
            return Ok(Told::Failed(Box::new(failed.clone())));
        }
        show(step, &status);
    }
    let (code, words) = match stream.finish().await {
        Err(error) if error.exit == Exit::Stopping => return Ok(Told::Nothing),
        finished => finished?,
    };
    if code != i32::from(Exit::Usage.code()) {
        return Ok(Told::Nothing);
    }
    let error = crate::remote::failed_with("cannot wait for the builder", code, &words);
    let old = String::from_utf8_lossy(&words).contains("unknown: await");
    Err(if old { error.hint(OTHER_VERSION) } else { error })
}

/// What the builder's agents were made from, where that is not what we were made from.
fn other_version<'a>(status: &'a BuilderStatus, ours: &str) -> Option<&'a str> {
    status
        .agents
        .iter()
        .map(|agent| agent.version.as_str())
        .find(|theirs| !theirs.is_empty() && *theirs != ours)
}

/// Both the daemon and the way in.
pub(crate) fn is_ready(status: &BuilderStatus) -> bool {
    let user = status.agents.iter().find(|agent| agent.agent == Container::User.agent());
    status.ready.is_some() && user.is_some_and(|user| user.phase == Phase::Running)
}

/// The cause comes before its consequences in the order of the pod.
fn first_failed(status: &BuilderStatus) -> Option<&AgentStatus> {
    Container::ALL.iter().find_map(|container| {
        status.agents.iter().find(|agent| agent.agent == container.agent() && agent.phase == Phase::Failed)
    })
}

fn show(step: &mut Step, status: &BuilderStatus) {
    let of = |container: Container| status.agents.iter().find(|agent| agent.agent == container.agent());
    let working =
        of(Container::Daemon).filter(|agent| agent.phase == Phase::Starting).or(of(Container::User));
    let Some(agent) = working else { return };
    step.at(&agent.message);
    if let Some((done, total)) = agent.progress {
        step.progress(done, total);
    }
}

fn agent_failed(context: &Context, agent: &AgentStatus) -> CliError {
    let container =
        Container::ALL.into_iter().find(|c| c.agent() == agent.agent).map_or("pod", Container::name);
    CliError::new(
        agent.exit.unwrap_or(Exit::ChildFailed),
        format!("the {container} container of builder {} failed: {}", context.name, agent.message),
    )
    .hint(format!("`trampoline-cli logs {container}` shows its whole log"))
}

/// The user container does not answer: is there one that will?
async fn broken(context: &Context) -> Result<Option<CliError>> {
    let observed = context.engine.observe(&context.name).await?;
    match observed.phase() {
        PodPhase::Running | PodPhase::Starting => Ok(None),
        PodPhase::Absent => {
            Ok(Some(CliError::engine(format!("the pod of builder {} was removed", context.name))))
        }
        _ => {
            let culprit = observed
                .failed()
                .or_else(|| observed.containers.iter().find(|container| !container.running))
                .map_or("daemon", |container| container.name.as_str());
            let container =
                Container::ALL.into_iter().find(|c| c.name() == culprit).unwrap_or(Container::Daemon);
            let words = context.engine.log_tail(&context.name, container, LAST_WORDS).await?;
            let words = if words.is_empty() { "it wrote nothing".to_owned() } else { words };
            Ok(Some(
                CliError::new(
                    Exit::ChildFailed,
                    format!("the {culprit} container of builder {} ended while starting; its last words:\n{words}", context.name),
                )
                .hint(format!("`trampoline-cli logs {culprit}` shows its whole log")),
            ))
        }
    }
}

/// Runs something in the builder; where that meets a start or a stop, waits for its end and tries again, once.
pub(crate) async fn retrying<F>(context: &Context, mut run: impl FnMut() -> F) -> Result<i32>
where
    F: Future<Output = Result<i32>>,
{
    let code = run().await?;
    if again(context, code).await? { run().await } else { Ok(code) }
}

/// The same for a command that is read to its end.
pub(crate) async fn exec(context: &Context, argv: &[&str], input: &[u8]) -> Result<Output> {
    let output = context.engine.exec(&context.name, Container::User, argv, input).await?;
    if again(context, output.code).await? {
        return context.engine.exec(&context.name, Container::User, argv, input).await;
    }
    Ok(output)
}

/// Whether a command that ended with this code only came too early or too late; if so, the builder is ready now.
pub(crate) async fn again(context: &Context, code: i32) -> Result<bool> {
    // `Stopping`, or podman's own codes for a container that does not run.
    if code != i32::from(Exit::Stopping.code()) && !matches!(code, 125 | 255) {
        return Ok(false);
    }
    let observed = context.engine.observe(&context.name).await?;
    if observed.phase() != PodPhase::Running {
        if !observed.exists() {
            return Err(absent(context));
        }
        running(context).await?;
        return Ok(true);
    }
    let Some(status) = status(context).await? else { return Ok(false) };
    if leaves(&status) {
        let lock = context.state.lock(context.ui).await?;
        let step = context
            .ui
            .step(format!("builder {} is stopping; waiting for it to start it again", context.name));
        context.engine.stopped(&observed).await?;
        step.clear();
        let observed = context.engine.wanted(&context.name).await?;
        start(context, observed, &lock).await?;
        return Ok(true);
    }
    if is_ready(&status) {
        // Then the code is the command's own.
        return Ok(false);
    }
    ready(context, &format!("reaching builder {}", context.name)).await?;
    Ok(true)
}

fn leaves(status: &BuilderStatus) -> bool {
    status.drain.is_some() || status.stop.as_ref().is_some_and(|stop| stop.phase == StopPhase::Final)
}
