//! From the configuration and the machine to a rendering.

use std::net::{Ipv4Addr, TcpListener};

use contract::exit::Exit;
use contract::handshake::Isolation;

use crate::context::Context;
use crate::engine::Observed;
use crate::error::{CliError, OnPath, Result};
use crate::render::limits::{self, Resolved};
use crate::render::{Rendering, Sources, digest};
use crate::settings::owner;

/// Name of the saved rendering in the client's state.
pub(crate) const RENDERING: &str = "pod.json";
/// Ports that are tried for sshd: below those that the kernel hands out by itself.
const PORTS: std::ops::Range<u16> = 22_200..24_200;

/// What the builder should look like on this machine.
pub(crate) async fn rendering(context: &Context, observed: &Observed) -> Result<(Rendering, Resolved)> {
    let capacity = context.engine.capacity().await?;
    let mut resolved = limits::resolve(&context.settings.config, &capacity, !observed.has_store())?;
    let (rendering, note) = with_limits(context, observed, &resolved).await?;
    resolved.notes.extend(note);
    Ok((rendering, resolved))
}

/// The same, where what the machine has is known; and what the user should know.
async fn with_limits(
    context: &Context,
    observed: &Observed,
    resolved: &Resolved,
) -> Result<(Rendering, Option<String>)> {
    let config = &context.settings.config;
    let ca_bundle = config.daemon.ca_bundle.as_deref().map(|path| read_bundle(context, path)).transpose()?;
    let me = owner();
    let sources = Sources {
        builder: &context.name,
        config,
        text: &context.settings.text,
        ca_bundle: ca_bundle.as_deref(),
        owner: observed.owner.as_deref().unwrap_or(&me),
        ssh_port: port(context, observed)?,
        limits: resolved,
        isolation: Isolation::Privileged,
        hosts: &context.engine.hosts(config).await?,
    };
    let isolated = context.engine.isolation(&sources, observed).await?;
    let sources = Sources { isolation: isolated.isolation, ..sources };
    Ok((context.engine.render(&sources).await?, isolated.why))
}

/// Relative to the file that names it.
fn read_bundle(context: &Context, path: &str) -> Result<String> {
    let base = context.settings.file.as_deref().and_then(std::path::Path::parent);
    let path = base.unwrap_or(std::path::Path::new("")).join(path);
    let text = std::fs::read_to_string(&path)
        .on("daemon.ca-bundle: cannot read", &path)
        .map_err(|error| CliError { exit: Exit::Config, ..error })?;
    if text.contains("PRIVATE KEY") {
        return Err(CliError::new(
            Exit::Config,
            format!("daemon.ca-bundle: {} holds a PRIVATE key", path.display()),
        )
        .hint("it is shipped to the builder: name a file that holds certificates alone"));
    }
    Ok(text)
}

/// The configured port, the one it has, the one it had, or a free one.
fn port(context: &Context, observed: &Observed) -> Result<u16> {
    if let Some(port) = context.settings.config.builder.ssh_port {
        return Ok(port);
    }
    let had = || context.state.read::<Rendering>(RENDERING).map(|rendering| rendering.ssh_port);
    match observed.ssh_port {
        Some(port) => Ok(port),
        None => had().filter(|port| is_free(*port)).map_or_else(|| free_port(&context.name), Ok),
    }
}

/// So often a new builder gets another port than the one that was free when it was chosen.
pub(crate) const OTHER_PORTS: u32 = 2;

/// Whether a builder could not be made because another program, or another builder that is made at the same time, has got its port, and
/// another one will do.
pub(crate) fn lost_its_port(context: &Context, observed: &Observed, error: &CliError) -> bool {
    context.settings.config.builder.ssh_port.is_none()
        && observed.containers.is_empty()
        && error.message.contains(crate::engine::PORT_TAKEN)
}

/// Whether nobody listens there.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// A free one; the search begins at a place of the builder's own, so that it keeps its port where it can.
pub(crate) fn free_port(builder: &str) -> Result<u16> {
    let start =
        u16::from_str_radix(&digest(builder.as_bytes())[..4], 16).unwrap_or(0) % (PORTS.end - PORTS.start);
    PORTS.cycle_from(start).find(|port| is_free(*port)).ok_or_else(|| {
        CliError::engine("no port is free for sshd").hint("choose one with `ssh-port` under [builder]")
    })
}

/// A range from its middle on, once round.
trait CycleFrom {
    fn cycle_from(&self, offset: u16) -> impl Iterator<Item = u16>;
}

impl CycleFrom for std::ops::Range<u16> {
    fn cycle_from(&self, offset: u16) -> impl Iterator<Item = u16> {
        (self.start + offset..self.end).chain(self.start..self.start + offset)
    }
}
