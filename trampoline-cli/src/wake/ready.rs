//! Waiting until a builder that was started serves, and saying why it does not.

use std::time::{Duration, Instant};

use contract::exit::Exit;
use contract::handshake::{AgentStatus, BuilderStatus, Phase};
use contract::places::{Container, USER_INIT};

use crate::context::Context;
use crate::engine::{PodPhase, Trouble};
use crate::error::{CliError, Result};
use crate::lines::{self, Telling};
use crate::remote;
use crate::ui::Step;

/// What keeps a start from going on is told once it lasts this long.
const WORTH_A_WORD: Duration = Duration::from_secs(2);
/// From one close look to the next.
const BETWEEN: Duration = Duration::from_secs(2);
/// Version of this program, and of the agents that it carries.
const OURS: &str = env!("CARGO_PKG_VERSION");
/// What to do where the image does not know what this client asks for.
const OTHER_VERSION: &str =
    "client and image are of different versions: `trampoline-cli image build` makes the default image anew";
/// Lines of a log that go into a message.
const LAST_WORDS: u32 = 8;

/// What the pod publishes; nothing where its user container does not answer.
pub(crate) async fn status(context: &Context) -> Result<Option<BuilderStatus>> {
    let output = context.engine.exec(&context.name, Container::User, &[USER_INIT, "status"], &[]).await?;
    if output.code != 0 {
        return Ok(None);
    }
    read(&output.stdout).map(Some)
}

fn read(text: &[u8]) -> Result<BuilderStatus> {
    lines::read(text, "the builder's status")
}

/// Waits until the daemon answers and sessions are served.
pub(crate) async fn ready(context: &Context, what: &str) -> Result<()> {
    ready_for(context, what, None).await.map(drop)
}

/// The same; whoever has one of these keys may come in then. What the pod publishes now.
pub(crate) async fn ready_for(context: &Context, what: &str, keys: Option<&str>) -> Result<BuilderStatus> {
    // The agents give up first, and say why.
    let deadline = Instant::now() + context.settings.config.daemon.ready_timeout + Duration::from_secs(30);
    let mut step = context.ui.step(what);
    // What every start goes through is over by then.
    let mut close_look = Instant::now() + WORTH_A_WORD;
    loop {
        let closely = Instant::now() >= close_look;
        let trouble = context.engine.trouble(&context.name, closely).await?;
        let told = match trouble {
            Trouble::Fatal(error) => {
                step.clear();
                return Err(error);
            }
            Trouble::Waiting(line) => {
                if closely {
                    step.at(&line);
                }
                Told::Waits
            }
            Trouble::None => {
                let waiting = await_served(context, keys, &mut step);
                tokio::time::timeout_at(deadline.into(), waiting).await.unwrap_or(Ok(Told::Nothing))?
            }
        };
        if closely {
            close_look = Instant::now() + BETWEEN;
        }
        match told {
            Told::Served(status) => {
                step.done(&format!("builder {} is ready", context.name));
                for job in status.user.iter().flat_map(|user| &user.lost) {
                    context.ui.warn(format!("build {job} was interrupted when the builder ended"));
                }
                if let Some(theirs) = other_version(&status, OURS) {
                    context.ui.warn(format!(
                        "builder {} is of version {theirs}, this client of {OURS}: `trampoline-cli setup` brings them together",
                        context.name
                    ));
                }
                return Ok(*status);
            }
            Told::Failed(failed) => {
                step.clear();
                return Err(agent_failed(context, &failed));
            }
            Told::Nothing => {
                if let Some(error) = broken(context).await? {
                    step.clear();
                    return Err(error);
                }
            }
            Told::Waits => {}
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
    /// The engine knows what it waits for.
    Waits,
}

/// Waits in the pod, where the kernel tells of each change.
async fn await_served(context: &Context, keys: Option<&str>, step: &mut Step) -> Result<Told> {
    let mut argv = vec![USER_INIT, "await"];
    argv.extend(keys.map(|_| "--keys"));
    // An empty line ends the keys.
    let input = keys.map(|keys| format!("{keys}\n")).unwrap_or_default();
    let mut telling = match Telling::start(context, &argv, input.as_bytes()).await {
        // It has ended since it was looked at; whether it comes again, the next look tells.
        Err(error) if error.exit == Exit::Stopping => return Ok(Told::Nothing),
        telling => telling?,
    };
    while let Ok(Some(line)) = telling.next().await {
        let status = read(line.as_bytes())?;
        // Its end is not waited for: the engine takes its time to tell.
        if status.is_served() {
            return Ok(Told::Served(Box::new(status)));
        }
        if let Some(failed) = first_failed(&status) {
            return Ok(Told::Failed(Box::new(failed.clone())));
        }
        show(step, &status);
    }
    let (code, words) = match telling.finish().await {
        Err(error) if error.exit == Exit::Stopping => return Ok(Told::Nothing),
        finished => finished?,
    };
    if code != i32::from(Exit::Usage.code()) {
        return Ok(Told::Nothing);
    }
    let error = remote::failed_with("cannot wait for the builder", code, &words);
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

/// The cause comes before its consequences in the order of the pod.
fn first_failed(status: &BuilderStatus) -> Option<&AgentStatus> {
    let agents = Container::ALL.into_iter().filter_map(|container| status.agent(container));
    agents.into_iter().find(|agent| agent.phase == Phase::Failed)
}

fn show(step: &mut Step, status: &BuilderStatus) {
    let daemon = status.agent(Container::Daemon).filter(|agent| agent.phase == Phase::Starting);
    let working = daemon.or(status.agent(Container::User));
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
        _ if observed.was_asked_to_leave() => Ok(Some(
            CliError::new(
                Exit::Stopping,
                format!("builder {} was asked to stop before it was ready", context.name),
            )
            .hint("`trampoline-cli up` starts it again"),
        )),
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
